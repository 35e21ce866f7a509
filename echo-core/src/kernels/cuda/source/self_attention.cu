// Attention of new tokens to the tokens before them, causally; also puts theirs into the cache.
//
// Keys and values of said tokens lie in slots, (slots, width) each; a hypothesis lists the slots of
// its tokens, and hypotheses with a common beginning list the same ones, so that choosing among
// hypotheses moves lists and never keys. New tokens are read from the step's own product.
//
// `plan`, for tokens: (tokens, 4) of the token's position, its hypothesis' tokens in the cache, the
// hypothesis' first token in the step, and where its list of slots starts in `plan`.
//
// One block for a token and head. D / 8 lanes read a key of 16 bytes each; every such group of lanes
// keeps a softmax of its own over the keys it saw, and these are joined at the end.
#include "common.cuh"

constexpr int WARPS = 4;
constexpr int UNROLL = 4;

template <int D>
__device__ __forceinline__ void self_attention(const T* qkv, T* keys, T* values, const int* plan,
                                               T* out, int heads, float scale) {
    constexpr int LANES = D / 8, GROUPS = 32 / LANES * WARPS;
    __shared__ float joined[WARPS][D + 2];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, part = lane % LANES;
    const int group = warp * (32 / LANES) + lane / LANES;
    const int token = blockIdx.x, head = blockIdx.y;
    const int width = heads * D, column = head * D + 8 * part;
    wait_for_previous();
    const int4 own = *reinterpret_cast<const int4*>(plan + 4 * token);
    const int position = own.x, past = own.y, first_token = own.z;
    const int* slots = plan + own.w;
    const T* row = qkv + (size_t)token * 3 * width + column;
    float q[8];
    unpack8(load16(row), q);
    if (group == 0) {
        const size_t slot = (size_t)slots[position] * width + column;
        store16(keys + slot, load16(row + width));
        store16(values + slot, load16(row + 2 * width));
    }
    float highest = MINUS_INFINITY, total = 0, o[8] = {};
    for (int first = 0; first <= position; first += GROUPS * UNROLL) {
        uint4 k[UNROLL], v[UNROLL];
        float s[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            // Of keys past the last, the last is read and not counted.
            const int key = min(first + u * GROUPS + group, position);
            const T *k_at, *v_at;
            if (key < past) {
                const size_t slot = (size_t)slots[key] * width + column;
                k_at = keys + slot;
                v_at = values + slot;
            } else {
                k_at = qkv + (size_t)(first_token + key - past) * 3 * width + width + column;
                v_at = k_at + width;
            }
            k[u] = load16(k_at);
            v[u] = load16(v_at);
        }
        float high = highest;
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            float key[8];
            unpack8(k[u], key);
            float sum = 0;
#pragma unroll
            for (int j = 0; j < 8; j++) sum += q[j] * key[j];
#pragma unroll
            for (int offset = LANES / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
            s[u] = first + u * GROUPS + group <= position ? sum * scale : MINUS_INFINITY;
            high = fmaxf(high, s[u]);
        }
        // Nothing seen yet: there is nothing to shrink, and no maximum to subtract.
        const float shift = high == MINUS_INFINITY ? 0.0f : high;
        const float shrink = exp2_fast(highest - shift);
        highest = high;
        total *= shrink;
#pragma unroll
        for (int j = 0; j < 8; j++) o[j] *= shrink;
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            const float p = exp2_fast(s[u] - shift);
            float value[8];
            unpack8(v[u], value);
            total += p;
#pragma unroll
            for (int j = 0; j < 8; j++) o[j] += p * value[j];
        }
    }
    float warp_high = highest;
#pragma unroll
    for (int offset = LANES; offset < 32; offset *= 2) {
        warp_high = fmaxf(warp_high, __shfl_xor_sync(~0u, warp_high, offset));
    }
    const float shrink = exp2_fast(highest - (warp_high == MINUS_INFINITY ? 0.0f : warp_high));
    total *= shrink;
#pragma unroll
    for (int j = 0; j < 8; j++) o[j] *= shrink;
#pragma unroll
    for (int offset = LANES; offset < 32; offset *= 2) {
        total += __shfl_xor_sync(~0u, total, offset);
#pragma unroll
        for (int j = 0; j < 8; j++) o[j] += __shfl_xor_sync(~0u, o[j], offset);
    }
    if (lane < LANES) {
#pragma unroll
        for (int j = 0; j < 8; j++) joined[warp][8 * lane + j] = o[j];
        if (lane == 0) {
            joined[warp][D] = warp_high;
            joined[warp][D + 1] = total;
        }
    }
    __syncthreads();
    if (threadIdx.x < D) {
        float high = MINUS_INFINITY, sum = 0, value = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) high = fmaxf(high, joined[w][D]);
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float weight = exp2_fast(joined[w][D] - high);
            sum += weight * joined[w][D + 1];
            value += weight * joined[w][threadIdx.x];
        }
        out[(size_t)token * width + head * D + threadIdx.x] = narrow(value / sum);
    }
}

#define SELF_ATTENTION(d)                                                                          \
    extern "C" __global__ void __launch_bounds__(WARPS * 32)                                       \
        self_attention_##d(const T* qkv, T* keys, T* values, const int* plan, T* out, int heads,   \
                           float scale) {                                                          \
        self_attention<d>(qkv, keys, values, plan, out, heads, scale);                             \
    }
SELF_ATTENTION(32)
SELF_ATTENTION(64)
