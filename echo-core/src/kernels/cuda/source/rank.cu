// The likeliest tokens after each row of logits, with what the rules forbid left out.
//
// One block for a row; a thread keeps its share of the logits in registers. `plan` starts with eight
// numbers for each row: where its forbidden tokens start in `plan`, how many tokens and how many
// ranges of tokens behind them there are, nothing, and the first and one past the last token of a
// group. If the group's tokens together are likelier than
// any token before it, only the group may be chosen. The result has for each row the logarithm of
// the sum of what may be chosen, then `count` pairs of a token and its logit, likeliest first, of
// equals the lower token; where nothing is left, the logit is minus infinity.
#include "common.cuh"

constexpr int THREADS = 1024;
constexpr int SHARE = 52;
constexpr int WARPS = THREADS / 32;

struct Sum {
    float highest, total;
};

__device__ __forceinline__ Sum join(Sum a, Sum b) {
    const float highest = fmaxf(a.highest, b.highest);
    if (highest == MINUS_INFINITY) return {highest, 0.0f};
    return {highest, a.total * __expf(a.highest - highest) + b.total * __expf(b.highest - highest)};
}

__device__ __forceinline__ Sum block_sum(Sum own, Sum* shared, int warp, int lane) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        own = join(own, {__shfl_xor_sync(~0u, own.highest, offset), __shfl_xor_sync(~0u, own.total, offset)});
    }
    if (lane == 0) shared[warp] = own;
    __syncthreads();
    Sum all = shared[lane % WARPS];
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        all = join(all, {__shfl_xor_sync(~0u, all.highest, offset), __shfl_xor_sync(~0u, all.total, offset)});
    }
    __syncthreads();
    return all;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    rank(float* logits, const int* plan, int* out, int vocab, int count) {
    __shared__ Sum sums[WARPS];
    __shared__ float best_logit[WARPS];
    __shared__ int best_token[WARPS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    wait_for_previous();
    float* row = logits + (size_t)blockIdx.x * vocab;
    const int* numbers = plan + 8 * blockIdx.x;
    const int4 list = *reinterpret_cast<const int4*>(numbers);
    const int group_begin = numbers[4], group_end = numbers[5];
    for (int at = threadIdx.x; at < list.y; at += THREADS) row[plan[list.x + at]] = MINUS_INFINITY;
    const int* ranges = plan + list.x + list.y;
    for (int range = 0; range < list.z; range++) {
        const int from = ranges[2 * range], to = ranges[2 * range + 1];
        for (int token = from + threadIdx.x; token < to; token += THREADS) row[token] = MINUS_INFINITY;
    }
    __syncthreads();

    float share[SHARE];
    Sum before = {MINUS_INFINITY, 0.0f}, group = before;
#pragma unroll
    for (int i = 0; i < SHARE; i++) {
        const int token = i * THREADS + threadIdx.x;
        share[i] = token < vocab ? row[token] : MINUS_INFINITY;
    }
    float highest = MINUS_INFINITY, highest_group = MINUS_INFINITY;
#pragma unroll
    for (int i = 0; i < SHARE; i++) {
        const int token = i * THREADS + threadIdx.x;
        if (token >= group_begin && token < group_end) highest_group = fmaxf(highest_group, share[i]);
        else highest = fmaxf(highest, share[i]);
    }
    before.highest = highest;
    group.highest = highest_group;
#pragma unroll
    for (int i = 0; i < SHARE; i++) {
        const int token = i * THREADS + threadIdx.x;
        if (token >= group_begin && token < group_end) {
            if (highest_group != MINUS_INFINITY) group.total += __expf(share[i] - highest_group);
        } else if (highest != MINUS_INFINITY) {
            before.total += __expf(share[i] - highest);
        }
    }
    before = block_sum(before, sums, warp, lane);
    group = block_sum(group, sums, warp, lane);
    const bool only_group = group.highest + __logf(group.total) > before.highest;
    const Sum all = only_group ? group : join(before, group);
    int* answer = out + blockIdx.x * (1 + 2 * count);
    if (threadIdx.x == 0) answer[0] = __float_as_int(all.highest + __logf(all.total));

    float own_logit = MINUS_INFINITY;
    int own_token = vocab;
    bool is_stale = true;
    for (int place = 0; place < count; place++) {
        if (is_stale) {
            own_logit = MINUS_INFINITY;
            own_token = vocab;
#pragma unroll
            for (int i = 0; i < SHARE; i++) {
                const int token = i * THREADS + threadIdx.x;
                const bool may_be = !only_group || (token >= group_begin && token < group_end);
                if (may_be && share[i] > own_logit) {
                    own_logit = share[i];
                    own_token = token;
                }
            }
            is_stale = false;
        }
        float logit = own_logit;
        int token = own_token;
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) {
            const float other = __shfl_xor_sync(~0u, logit, offset);
            const int other_token = __shfl_xor_sync(~0u, token, offset);
            if (other > logit || (other == logit && other_token < token)) {
                logit = other;
                token = other_token;
            }
        }
        if (lane == 0) {
            best_logit[warp] = logit;
            best_token[warp] = token;
        }
        __syncthreads();
        logit = best_logit[lane];
        token = best_token[lane];
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) {
            const float other = __shfl_xor_sync(~0u, logit, offset);
            const int other_token = __shfl_xor_sync(~0u, token, offset);
            if (other > logit || (other == logit && other_token < token)) {
                logit = other;
                token = other_token;
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            answer[1 + 2 * place] = token;
            answer[2 + 2 * place] = __float_as_int(logit);
        }
        if (token == own_token && token < vocab) {
#pragma unroll
            for (int i = 0; i < SHARE; i++) {
                if (i * THREADS + threadIdx.x == token) share[i] = MINUS_INFINITY;
            }
            is_stale = true;
        }
    }
}
