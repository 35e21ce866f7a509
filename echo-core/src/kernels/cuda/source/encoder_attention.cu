// Attention of all frames of a window to all of them, without a matrix of scores in memory.
//
// Dao, "FlashAttention-2" (2023): a block of 4 warps holds 128 queries in registers, 32 a warp, and
// walks through keys and values in tiles of 64 that are copied to shared memory two tiles ahead.
// The softmax is kept as a running maximum and sum. Shared memory is swizzled: 16-byte chunk c of
// row r lies where no two of 8 rows read together share a bank.
#include "common.cuh"

constexpr int QUERIES = 128;
constexpr int KEYS = 64;
constexpr int STAGES = 3;
constexpr int THREADS = 128;
constexpr int M_TILES = 2;

template <int D>
__device__ __forceinline__ int swizzled(int row, int chunk) {
    constexpr int CHUNKS = D / 8;
    const int turn = D == 64 ? row & 7 : (row >> 1) & 3;
    return (row * CHUNKS + (chunk ^ turn)) * 16;
}

__device__ __forceinline__ void copy_async(uint32_t to, const void* from, bool is_inside) {
    const int bytes = is_inside ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
}

__device__ __forceinline__ void load_matrices(uint32_t* v, uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(at));
}

__device__ __forceinline__ void load_transposed(uint32_t* v, uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(at));
}

// A tile of keys and one of values into a stage; rows past the last are zero.
template <int D>
__device__ __forceinline__ void fetch(uint32_t stage, const T* keys, const T* values, int first,
                                      int frames, int stride) {
    constexpr int CHUNKS = D / 8;
#pragma unroll
    for (int i = 0; i < KEYS * CHUNKS / THREADS; i++) {
        const int at = threadIdx.x + i * THREADS, row = at / CHUNKS, chunk = at % CHUNKS;
        const bool is_inside = first + row < frames;
        const size_t from = (size_t)(is_inside ? first + row : 0) * stride + 8 * chunk;
        copy_async(stage + swizzled<D>(row, chunk), keys + from, is_inside);
        copy_async(stage + KEYS * D * 2 + swizzled<D>(row, chunk), values + from, is_inside);
    }
}

template <int D>
__device__ __forceinline__ void encoder_attention(const T* qkv, T* out, int frames, int heads,
                                                  float scale) {
    constexpr int K_STEPS = D / 16, S_TILES = KEYS / 8, O_TILES = D / 8;
    constexpr int STAGE_BYTES = 2 * KEYS * D * 2;
    __shared__ __align__(128) char shared[STAGES * STAGE_BYTES];
    const uint32_t base = (uint32_t)__cvta_generic_to_shared(shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int width = heads * D, stride = 3 * width;
    const T* from = qkv + (size_t)blockIdx.z * frames * stride + blockIdx.y * D;
    const T *keys = from + width, *values = from + 2 * width;
    const int first_query = blockIdx.x * QUERIES + warp * 32;
    wait_for_previous();

    const int n_tiles = (frames + KEYS - 1) / KEYS;
    fetch<D>(base, keys, values, 0, frames, stride);
    asm volatile("cp.async.commit_group;");
    if (n_tiles > 1) fetch<D>(base + STAGE_BYTES, keys, values, KEYS, frames, stride);
    asm volatile("cp.async.commit_group;");

    uint32_t q[M_TILES][K_STEPS][4];
#pragma unroll
    for (int m = 0; m < M_TILES; m++) {
#pragma unroll
        for (int step = 0; step < K_STEPS; step++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                // Queries past the last repeat it; they are not stored.
                const int row = min(first_query + 16 * m + g + 8 * (i & 1), frames - 1);
                const T* at = from + (size_t)row * stride + 16 * step + 8 * (i >> 1) + 2 * t;
                q[m][step][i] = *reinterpret_cast<const uint32_t*>(at);
            }
        }
    }
    float o[M_TILES][O_TILES][4] = {};
    float highest[M_TILES][2], total[M_TILES][2] = {};
#pragma unroll
    for (int m = 0; m < M_TILES; m++) highest[m][0] = highest[m][1] = MINUS_INFINITY;

    for (int tile = 0; tile < n_tiles; tile++) {
        asm volatile("cp.async.wait_group 1;");
        // Also: every warp is done with the stage that is filled next.
        __syncthreads();
        if (tile + 2 < n_tiles) {
            fetch<D>(base + (tile + 2) % STAGES * STAGE_BYTES, keys, values, (tile + 2) * KEYS, frames,
                     stride);
        }
        asm volatile("cp.async.commit_group;");
        const uint32_t k_stage = base + tile % STAGES * STAGE_BYTES, v_stage = k_stage + KEYS * D * 2;

        float s[M_TILES][S_TILES][4] = {};
#pragma unroll
        for (int step = 0; step < K_STEPS; step++) {
#pragma unroll
            for (int pair = 0; pair < S_TILES / 2; pair++) {
                uint32_t b[4];
                const int matrix = lane / 8, row = pair * 16 + matrix / 2 * 8 + lane % 8;
                load_matrices(b, k_stage + swizzled<D>(row, 2 * step + matrix % 2));
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    uint32_t* a = q[m][step];
                    mma(s[m][2 * pair], a[0], a[1], a[2], a[3], b[0], b[1]);
                    mma(s[m][2 * pair + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
                }
            }
        }
        if ((tile + 1) * KEYS > frames) {
#pragma unroll
            for (int n = 0; n < S_TILES; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if (tile * KEYS + 8 * n + 2 * t + i % 2 >= frames) {
#pragma unroll
                        for (int m = 0; m < M_TILES; m++) s[m][n][i] = MINUS_INFINITY;
                    }
                }
            }
        }
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float high = highest[m][half];
#pragma unroll
                for (int n = 0; n < S_TILES; n++) {
                    high = fmaxf(high, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
                }
                high = fmaxf(high, __shfl_xor_sync(~0u, high, 1));
                high = fmaxf(high, __shfl_xor_sync(~0u, high, 2));
                const float shrink = exp2_fast((highest[m][half] - high) * scale);
                highest[m][half] = high;
                float sum = 0;
                const float offset = high * scale;
#pragma unroll
                for (int n = 0; n < S_TILES; n++) {
#pragma unroll
                    for (int i = 2 * half; i < 2 * half + 2; i++) {
                        s[m][n][i] = exp2_fast(s[m][n][i] * scale - offset);
                        sum += s[m][n][i];
                    }
                }
                total[m][half] = total[m][half] * shrink + sum;
#pragma unroll
                for (int n = 0; n < O_TILES; n++) {
                    o[m][n][2 * half] *= shrink;
                    o[m][n][2 * half + 1] *= shrink;
                }
            }
        }
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            uint32_t p[M_TILES][4];
#pragma unroll
            for (int m = 0; m < M_TILES; m++) {
                p[m][0] = pack(s[m][2 * step][0], s[m][2 * step][1]);
                p[m][1] = pack(s[m][2 * step][2], s[m][2 * step][3]);
                p[m][2] = pack(s[m][2 * step + 1][0], s[m][2 * step + 1][1]);
                p[m][3] = pack(s[m][2 * step + 1][2], s[m][2 * step + 1][3]);
            }
#pragma unroll
            for (int pair = 0; pair < O_TILES / 2; pair++) {
                uint32_t b[4];
                const int matrix = lane / 8, row = step * 16 + matrix % 2 * 8 + lane % 8;
                load_transposed(b, v_stage + swizzled<D>(row, 2 * pair + matrix / 2));
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    mma(o[m][2 * pair], p[m][0], p[m][1], p[m][2], p[m][3], b[0], b[1]);
                    mma(o[m][2 * pair + 1], p[m][0], p[m][1], p[m][2], p[m][3], b[2], b[3]);
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < M_TILES; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = total[m][half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            const int row = first_query + 16 * m + g + 8 * half;
            if (row >= frames) continue;
            T* to = out + ((size_t)blockIdx.z * frames + row) * width + blockIdx.y * D + 2 * t;
#pragma unroll
            for (int n = 0; n < O_TILES; n++) {
                *reinterpret_cast<uint32_t*>(to + 8 * n) =
                    pack(o[m][n][2 * half] / sum, o[m][n][2 * half + 1] / sum);
            }
        }
    }
}

#define ENCODER_ATTENTION(d)                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) encoder_attention_##d( \
        const T* qkv, T* out, int frames, int heads, float scale) {                 \
        encoder_attention<d>(qkv, out, frames, heads, scale);                       \
    }
ENCODER_ATTENTION(32)
ENCODER_ATTENTION(64)
