// Attention of new tokens to the frames of their windows.
//
// A window's keys (heads, padded, D) and values (heads, D, padded) are read once for up to 16 tokens
// that listen to it, whichever hypothesis they belong to, straight from memory into the tensor
// cores' registers: scores are q (16, D) by 8 frames, the result p (16, 32) by 8 columns. A thread's
// frames of a block of 32 are 8 t to 8 t + 7 in both products, so that the probabilities need not
// change hands and values are read 8 frames at a time.
//
// A block is one part of the frames of a window's head; its warps take turns with blocks of 32
// frames. Parts leave maximum, sum and weighted values behind, and the last one to end joins them.
//
// `groups`: (groups, 18) of the window, how many tokens there are, and up to 16 tokens.
#include "common.cuh"

constexpr int WARPS = 4;
constexpr int QUERIES = 16;
constexpr int GROUP_WORDS = 2 + QUERIES;

template <int D>
struct Frames32 {
    uint4 k[4][D / 32];
    uint4 v[D / 8];

    __device__ __forceinline__ void load(const T* keys, const T* values, int first, int padded, int g,
                                         int t) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const T* row = keys + (size_t)(first + 8 * (g / 2) + 2 * i + g % 2) * D + 8 * t;
#pragma unroll
            for (int c = 0; c < D / 32; c++) k[i][c] = stream16(row + 32 * c);
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++) v[n] = stream16(values + (size_t)(8 * n + g) * padded + first + 8 * t);
    }
};

template <int D>
__device__ __forceinline__ void cross_attention(const T* q, const T* const* windows,
                                                const int* groups, T* out, float* parts,
                                                unsigned* arrivals, int frames, int padded,
                                                float scale) {
    __shared__ float joined[WARPS][QUERIES][D + 2];
    __shared__ bool is_last;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int n_parts = gridDim.x, head = blockIdx.y, heads = gridDim.y, width = heads * D;
    const int* group = groups + blockIdx.z * GROUP_WORDS;
    const int window = group[0], count = group[1];
    const T* keys = windows[window] + (size_t)head * padded * D;
    const T* values = keys + (size_t)padded * width;
    const int n_blocks = padded / 32;
    const int begin = n_blocks * blockIdx.x / n_parts + warp;
    const int end = n_blocks * (blockIdx.x + 1) / n_parts;

    Frames32<D> block;
    if (begin < end) block.load(keys, values, 32 * begin, padded, g, t);
    wait_for_previous();
    uint4 low[D / 32], high[D / 32];
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
        low[c] = high[c] = make_uint4(0, 0, 0, 0);
        const T* at = q + head * D + 32 * c + 8 * t;
        if (g < count) low[c] = load16(at + (size_t)group[2 + g] * width);
        if (g + 8 < count) high[c] = load16(at + (size_t)group[2 + g + 8] * width);
    }
    float o[D / 8][4] = {};
    float highest[2] = {MINUS_INFINITY, MINUS_INFINITY}, total[2] = {};
    const int n_halves = count > 8 ? 2 : 1;
    for (int index = begin; index < end; index += WARPS) {
        float s[4][4] = {};
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int c = 0; c < D / 32; c++) mma32(s[i], low[c], high[c], block.k[i][c]);
        }
        if (32 * (index + 1) > frames) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (32 * index + 8 * t + 2 * i + j % 2 >= frames) s[i][j] = MINUS_INFINITY;
                }
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (half >= n_halves) continue;
            float top = highest[half];
#pragma unroll
            for (int i = 0; i < 4; i++) top = fmaxf(top, fmaxf(s[i][2 * half], s[i][2 * half + 1]));
            top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
            top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
            const float shrink = exp2_fast((highest[half] - top) * scale);
            highest[half] = top;
            float sum = 0;
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 2 * half; j < 2 * half + 2; j++) {
                    s[i][j] = exp2_fast((s[i][j] - top) * scale);
                    sum += s[i][j];
                }
            }
            total[half] = total[half] * shrink + sum;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                o[n][2 * half] *= shrink;
                o[n][2 * half + 1] *= shrink;
            }
        }
        uint32_t p[4][2];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            p[i][0] = pack(s[i][0], s[i][1]);
            p[i][1] = pack(s[i][2], s[i][3]);
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            const uint4 v = block.v[n];
            mma(o[n], p[0][0], p[0][1], p[1][0], p[1][1], v.x, v.y);
            mma(o[n], p[2][0], p[2][1], p[3][0], p[3][1], v.z, v.w);
        }
        if (index + WARPS < end) block.load(keys, values, 32 * (index + WARPS), padded, g, t);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(~0u, total[half], 1);
        total[half] += __shfl_xor_sync(~0u, total[half], 2);
        const int query = g + 8 * half;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            joined[warp][query][8 * n + 2 * t] = o[n][2 * half];
            joined[warp][query][8 * n + 2 * t + 1] = o[n][2 * half + 1];
        }
        if (t == 0) {
            joined[warp][query][D] = highest[half];
            joined[warp][query][D + 1] = total[half];
        }
    }
    __syncthreads();
    const size_t place = ((size_t)blockIdx.z * heads + head) * n_parts;
    float* part = parts + (place + blockIdx.x) * QUERIES * (D + 2);
    for (int at = threadIdx.x; at < count * D; at += WARPS * 32) {
        const int query = at / D, column = at % D;
        float top = MINUS_INFINITY, sum = 0, value = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) top = fmaxf(top, joined[w][query][D]);
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            // A warp without frames has minus infinity here, and weighs nothing.
            const float weight = exp2_fast((joined[w][query][D] - top) * scale);
            sum += weight * joined[w][query][D + 1];
            value += weight * joined[w][query][column];
        }
        if (n_parts == 1) {
            out[(size_t)group[2 + query] * width + head * D + column] = narrow(value / sum);
            continue;
        }
        part[query * (D + 2) + column] = value;
        if (column == 0) {
            part[query * (D + 2) + D] = top;
            part[query * (D + 2) + D + 1] = sum;
        }
    }
    if (n_parts == 1) return;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned* arrived = arrivals + blockIdx.z * heads + head;
        is_last = atomicAdd(arrived, 1) == n_parts - 1;
        // For the next launch.
        if (is_last) *arrived = 0;
    }
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    const float* all = parts + place * QUERIES * (D + 2);
    for (int at = threadIdx.x; at < count * D; at += WARPS * 32) {
        const int query = at / D, column = at % D;
        float top = MINUS_INFINITY, sum = 0, value = 0;
        for (int i = 0; i < n_parts; i++) top = fmaxf(top, __ldcg(all + (i * QUERIES + query) * (D + 2) + D));
        for (int i = 0; i < n_parts; i++) {
            const float* from = all + (i * QUERIES + query) * (D + 2);
            const float weight = exp2_fast((__ldcg(from + D) - top) * scale);
            sum += weight * __ldcg(from + D + 1);
            value += weight * __ldcg(from + column);
        }
        out[(size_t)group[2 + query] * width + head * D + column] = narrow(value / sum);
    }
}

#define CROSS_ATTENTION(d)                                                                          \
    extern "C" __global__ void __launch_bounds__(WARPS * 32)                                        \
        cross_attention_##d(const T* q, const T* const* windows, const int* groups, T* out,         \
                            float* parts, unsigned* arrivals, int frames, int padded, float scale) { \
        cross_attention<d>(q, windows, groups, out, parts, arrivals, frames, padded, scale);        \
    }
CROSS_ATTENTION(32)
CROSS_ATTENTION(64)

// The probabilities themselves, (chosen heads, tokens, frames), for word times; one block for a
// head and token. `listens` is each token's window; `scale` as above.
extern "C" __global__ void cross_weights(const T* q, const T* const* windows, const int* listens,
                                         const int* chosen, float* weights, int frames, int padded,
                                         int heads, int d_head, float scale) {
    extern __shared__ float scores[];
    __shared__ float query[64], reduced[32];
    const int token = blockIdx.x, head = chosen[blockIdx.y], lane = threadIdx.x % 32;
    const T* keys = windows[listens[token]] + (size_t)head * padded * d_head;
    wait_for_previous();
    if (threadIdx.x < d_head) query[threadIdx.x] = widen(q[(size_t)token * heads * d_head + head * d_head + threadIdx.x]);
    __syncthreads();
    float high = MINUS_INFINITY;
    for (int frame = threadIdx.x; frame < frames; frame += blockDim.x) {
        float sum = 0;
        for (int chunk = 0; chunk < d_head / 8; chunk++) {
            float key[8];
            unpack8(load16(keys + (size_t)frame * d_head + 8 * chunk), key);
#pragma unroll
            for (int j = 0; j < 8; j++) sum += query[8 * chunk + j] * key[j];
        }
        scores[frame] = sum * scale;
        high = fmaxf(high, sum * scale);
    }
    high = warp_max(high);
    if (lane == 0) reduced[threadIdx.x / 32] = high;
    __syncthreads();
    for (int w = 0; w < blockDim.x / 32; w++) high = fmaxf(high, reduced[w]);
    __syncthreads();
    float sum = 0;
    for (int frame = threadIdx.x; frame < frames; frame += blockDim.x) {
        scores[frame] = exp2_fast(scores[frame] - high);
        sum += scores[frame];
    }
    sum = warp_sum(sum);
    if (lane == 0) reduced[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
    for (int w = 0; w < blockDim.x / 32; w++) sum += reduced[w];
    float* to = weights + ((size_t)blockIdx.y * gridDim.x + token) * frames;
    for (int frame = threadIdx.x; frame < frames; frame += blockDim.x) to[frame] = scores[frame] / sum;
}
