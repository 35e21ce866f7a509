// Linear layers over few rows: a decoder step. y = f(norm(x) W^T + b), W (outputs, inputs).
//
// Such a product is a walk through the weights, so each weight is read once, straight from memory
// into the tensor cores' registers as their left operand; the rows of x are the right one. A block
// makes 16, 32 or 48 outputs for all rows, so that all blocks run at once; its 16 warps share the
// inputs and add up at the end. The first weights are asked for before the kernel before has ended,
// and while rows are normalised; each is replaced by a later one as soon as it is used.
#include "common.cuh"

enum Epilogue { STORE, GELU, ADD, LOGITS };

constexpr int WARPS = 16;
// Keeps rows in shared memory in different banks.
constexpr int ROW_PAD = 32;
constexpr int MOST_CHUNKS = 5;

// Normalised rows of x to shared memory, one warp a row.
__device__ __forceinline__ void normalise(const T* x, const T* scale, const T* shift, T* out,
                                          int rows, int inputs, int warp, int lane) {
    const int chunks = inputs / 8;
    for (int row = warp; row < rows; row += WARPS) {
        uint4 packed[MOST_CHUNKS];
        float sum = 0;
#pragma unroll
        for (int i = 0; i < MOST_CHUNKS; i++) {
            if (lane + 32 * i < chunks) packed[i] = load16(x + (size_t)row * inputs + 8 * (lane + 32 * i));
        }
#pragma unroll
        for (int i = 0; i < MOST_CHUNKS; i++) {
            if (lane + 32 * i < chunks) {
                float v[8];
                unpack8(packed[i], v);
#pragma unroll
                for (int j = 0; j < 8; j++) sum += v[j];
            }
        }
        const float mean = warp_sum(sum) / inputs;
        float squares = 0;
#pragma unroll
        for (int i = 0; i < MOST_CHUNKS; i++) {
            if (lane + 32 * i < chunks) {
                float v[8];
                unpack8(packed[i], v);
#pragma unroll
                for (int j = 0; j < 8; j++) squares += (v[j] - mean) * (v[j] - mean);
            }
        }
        const float inverse = rsqrtf(warp_sum(squares) / inputs + EPSILON);
#pragma unroll
        for (int i = 0; i < MOST_CHUNKS; i++) {
            const int at = 8 * (lane + 32 * i);
            if (lane + 32 * i < chunks) {
                float v[8], a[8], b[8];
                unpack8(packed[i], v);
                unpack8(load16(scale + at), a);
                unpack8(load16(shift + at), b);
#pragma unroll
                for (int j = 0; j < 8; j++) v[j] = (v[j] - mean) * inverse * a[j] + b[j];
                store16(out + row * (inputs + ROW_PAD) + at, pack8(v));
            }
        }
    }
}

template <int OUTS, int TILES, bool NORM, int EPILOGUE>
__device__ __forceinline__ void skinny(const T* x, const T* scale, const T* shift, const T* weight,
                                       const T* bias, void* y, int rows, int inputs, int outputs) {
    // Registers for 10 to 18 vectors of weights.
    constexpr int UNROLL = OUTS == 1 ? 5 : 3;
    constexpr int PLACES = OUTS * TILES * 128;
    // First the normalised rows, behind them scale and shift; then the warps' sums.
    extern __shared__ __align__(16) char dynamic[];
    T* normed = reinterpret_cast<T*>(dynamic);
    float* partial = reinterpret_cast<float*>(dynamic);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int first = blockIdx.x * OUTS * 16;
    const T* from[OUTS][2];
#pragma unroll
    for (int out = 0; out < OUTS; out++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            // Outputs past the last are computed from the last and not stored.
            const int output = min(first + 16 * out + 8 * half + g, outputs - 1);
            from[out][half] = weight + (size_t)output * inputs + 8 * t;
        }
    }
    const int blocks = inputs / 32;
    const int begin = blocks * warp / WARPS, end = blocks * (warp + 1) / WARPS;

    uint4 a[UNROLL][OUTS][2];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        if (begin + u < end) {
#pragma unroll
            for (int out = 0; out < OUTS; out++) {
                a[u][out][0] = stream16(from[out][0] + 32 * (begin + u));
                a[u][out][1] = stream16(from[out][1] + 32 * (begin + u));
            }
        }
    }
    T* scales = normed + rows * (inputs + ROW_PAD);
    if (NORM) {
        for (int at = 8 * threadIdx.x; at < inputs; at += 8 * WARPS * 32) {
            store16(scales + at, load16(scale + at));
            store16(scales + inputs + at, load16(shift + at));
        }
    }
    wait_for_previous();
    const T* right = x;
    int stride = inputs;
    if (NORM) {
        __syncthreads();
        normalise(x, scales, scales + inputs, normed, rows, inputs, warp, lane);
        __syncthreads();
        right = normed;
        stride = inputs + ROW_PAD;
    }
    float sums[OUTS][TILES][4] = {};
    for (int block = begin; block < end; block += UNROLL) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            if (block + u >= end) continue;
            uint4 b[TILES];
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                const int row = 8 * tile + g;
                b[tile] = make_uint4(0, 0, 0, 0);
                if (row < rows) {
                    b[tile] = load16(right + (size_t)row * stride + 32 * (block + u) + 8 * t);
                }
            }
#pragma unroll
            for (int out = 0; out < OUTS; out++) {
#pragma unroll
                for (int tile = 0; tile < TILES; tile++) {
                    mma32(sums[out][tile], a[u][out][0], a[u][out][1], b[tile]);
                }
            }
            const int later = block + UNROLL + u;
            if (later < end) {
#pragma unroll
                for (int out = 0; out < OUTS; out++) {
                    a[u][out][0] = stream16(from[out][0] + 32 * later);
                    a[u][out][1] = stream16(from[out][1] + 32 * later);
                }
            }
        }
    }
    // All rows have been read.
    if (NORM) __syncthreads();
#pragma unroll
    for (int out = 0; out < OUTS; out++) {
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
            const float* own = sums[out][tile];
            reinterpret_cast<float4*>(partial)[((warp * OUTS + out) * TILES + tile) * 32 + lane] =
                make_float4(own[0], own[1], own[2], own[3]);
        }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < PLACES; at += WARPS * 32) {
        const int row = at / (16 * OUTS), out = at % (16 * OUTS), output = first + out;
        if (row >= rows || output >= outputs) continue;
        // Where the tensor cores leave (output, row).
        const int owner = (out % 8) * 4 + row % 8 / 2;
        const int place = (out / 16 * TILES + row / 8) * 128 + owner * 4 + (out % 16 / 8) * 2 + row % 2;
        float value = 0;
#pragma unroll
        for (int i = 0; i < WARPS; i++) value += partial[i * PLACES + place];
        const size_t to = (size_t)row * outputs + output;
        if (EPILOGUE == LOGITS) {
            reinterpret_cast<float*>(y)[to] = value;
            continue;
        }
        value += widen(bias[output]);
        T* to_y = reinterpret_cast<T*>(y) + to;
        if (EPILOGUE == GELU) value = gelu(value);
        if (EPILOGUE == ADD) value += widen(*to_y);
        *to_y = narrow(value);
    }
}

// Named by 16 outputs a block and 8 rows.
#define SKINNY(name, outs, tiles, norm, epilogue)                                                   \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, 1)                                     \
        name##_##outs##_##tiles(const T* x, const T* scale, const T* shift, const T* weight,        \
                                const T* bias, void* y, int rows, int inputs, int outputs) {        \
        skinny<outs, tiles, norm, epilogue>(x, scale, shift, weight, bias, y, rows, inputs, outputs); \
    }

#define SKINNY_SIZES(name, norm, epilogue) \
    SKINNY(name, 1, 1, norm, epilogue)     \
    SKINNY(name, 1, 2, norm, epilogue)     \
    SKINNY(name, 1, 4, norm, epilogue)     \
    SKINNY(name, 2, 1, norm, epilogue)     \
    SKINNY(name, 2, 2, norm, epilogue)     \
    SKINNY(name, 2, 4, norm, epilogue)     \
    SKINNY(name, 3, 1, norm, epilogue)     \
    SKINNY(name, 3, 2, norm, epilogue)

SKINNY_SIZES(norm_linear, true, STORE)
SKINNY_SIZES(norm_linear_gelu, true, GELU)
SKINNY(linear_add, 1, 1, false, ADD)
SKINNY(linear_add, 1, 2, false, ADD)
SKINNY(linear_add, 1, 4, false, ADD)
SKINNY(logits, 3, 1, false, LOGITS)
SKINNY(logits, 3, 2, false, LOGITS)
SKINNY(logits, 2, 4, false, LOGITS)
