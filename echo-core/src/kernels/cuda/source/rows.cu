// What is done to rows one by one: norms, GELU, embeddings, and the layouts between products.
#include "common.cuh"

constexpr int MOST_CHUNKS = 5;

// 8 values of a row of either format.
__device__ __forceinline__ void load8(const T* at, float* v) { unpack8(load16(at), v); }
__device__ __forceinline__ void load8(const float* at, float* v) {
    const float4 low = reinterpret_cast<const float4*>(at)[0];
    const float4 high = reinterpret_cast<const float4*>(at)[1];
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

// Layer norm, one warp a row; with `chosen`, of those rows of x.
template <typename From>
__device__ __forceinline__ void normalise(const From* x, const T* scale, const T* shift, T* y,
                                          const int* chosen, int rows, int columns) {
    wait_for_previous();
    const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const From* from = x + (size_t)(chosen ? chosen[row] : row) * columns;
    const int chunks = columns / 8;
    float v[MOST_CHUNKS][8];
    float sum = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < MOST_CHUNKS; i++) {
        if (lane + 32 * i < chunks) load8(from + 8 * (lane + 32 * i), v[i]);
    }
#pragma unroll
    for (int i = 0; i < MOST_CHUNKS; i++) {
        if (lane + 32 * i < chunks) {
#pragma unroll
            for (int j = 0; j < 8; j++) sum += v[i][j];
        }
    }
    const float mean = warp_sum(sum) / columns;
#pragma unroll
    for (int i = 0; i < MOST_CHUNKS; i++) {
        if (lane + 32 * i < chunks) {
#pragma unroll
            for (int j = 0; j < 8; j++) squares += (v[i][j] - mean) * (v[i][j] - mean);
        }
    }
    const float inverse = rsqrtf(warp_sum(squares) / columns + EPSILON);
#pragma unroll
    for (int i = 0; i < MOST_CHUNKS; i++) {
        const int at = 8 * (lane + 32 * i);
        if (lane + 32 * i < chunks) {
            float a[8], b[8];
            unpack8(load16(scale + at), a);
            unpack8(load16(shift + at), b);
#pragma unroll
            for (int j = 0; j < 8; j++) a[j] = (v[i][j] - mean) * inverse * a[j] + b[j];
            store16(y + (size_t)row * columns + at, pack8(a));
        }
    }
}

extern "C" __global__ void layer_norm(const T* x, const T* scale, const T* shift, T* y,
                                      const int* chosen, int rows, int columns) {
    normalise(x, scale, shift, y, chosen, rows, columns);
}

extern "C" __global__ void layer_norm_wide(const float* x, const T* scale, const T* shift, T* y,
                                           const int* chosen, int rows, int columns) {
    normalise(x, scale, shift, y, chosen, rows, columns);
}

// GELU in place, 8 values a thread.
extern "C" __global__ void gelu_in_place(T* x, size_t chunks) {
    wait_for_previous();
    const size_t chunk = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (chunk >= chunks) return;
    float v[8];
    unpack8(load16(x + 8 * chunk), v);
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] = gelu(v[j]);
    store16(x + 8 * chunk, pack8(v));
}

// y[token] = tokens[index] + positions[index]; one block a token.
extern "C" __global__ void embed(const T* tokens, const T* positions, const int* indices, T* y,
                                 int count, int columns) {
    wait_for_previous();
    const int row = blockIdx.x;
    const T* token = tokens + (size_t)indices[row] * columns;
    const T* position = positions + (size_t)indices[count + row] * columns;
    for (int chunk = threadIdx.x; chunk < columns / 8; chunk += blockDim.x) {
        float a[8], b[8];
        unpack8(load16(token + 8 * chunk), a);
        unpack8(load16(position + 8 * chunk), b);
#pragma unroll
        for (int j = 0; j < 8; j++) a[j] += b[j];
        store16(y + (size_t)row * columns + 8 * chunk, pack8(a));
    }
}

// The first convolution as a product: mel (windows, bands, frames) in f32 to (windows * frames,
// 3 * bands), columns as the weights have them: band after band, three taps each.
extern "C" __global__ void mel_columns(const float* mel, T* y, int bands, int frames) {
    wait_for_previous();
    const int columns = 3 * bands, frame = blockIdx.x;
    const size_t window = blockIdx.y;
    const float* from = mel + window * bands * frames;
    T* to = y + (window * frames + frame) * columns;
    for (int column = threadIdx.x; column < columns; column += blockDim.x) {
        const int source = frame + column % 3 - 1;
        const bool is_inside = source >= 0 && source < frames;
        to[column] = narrow(is_inside ? from[(size_t)(column / 3) * frames + source] : 0.0f);
    }
}

// The second convolution as a product: GELU of (windows * 2 frames, width) to (windows * frames,
// 3 * width), three taps of all channels; the step is two frames.
extern "C" __global__ void gelu_columns(const T* x, T* y, int width, int frames) {
    wait_for_previous();
    const int frame = blockIdx.x;
    const size_t window = blockIdx.y;
    const T* from = x + window * 2 * frames * width;
    T* to = y + (window * frames + frame) * 3 * width;
    for (int chunk = threadIdx.x; chunk < 3 * width / 8; chunk += blockDim.x) {
        const int source = 2 * frame + 8 * chunk / width - 1;
        float v[8] = {};
        if (source >= 0 && source < 2 * frames) {
            unpack8(load16(from + (size_t)source * width + 8 * chunk % width), v);
#pragma unroll
            for (int j = 0; j < 8; j++) v[j] = gelu(v[j]);
        }
        store16(to + 8 * chunk, pack8(v));
    }
}

// y = gelu(x) + positions; `positions` is one window's.
extern "C" __global__ void gelu_positions(const T* x, const T* positions, float* y, size_t chunks,
                                          int window_chunks) {
    wait_for_previous();
    const size_t chunk = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (chunk >= chunks) return;
    float v[8], p[8];
    unpack8(load16(x + 8 * chunk), v);
    unpack8(load16(positions + 8 * (chunk % window_chunks)), p);
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] = gelu(v[j]) + p[j];
    float4* to = reinterpret_cast<float4*>(y + 8 * chunk);
    to[0] = make_float4(v[0], v[1], v[2], v[3]);
    to[1] = make_float4(v[4], v[5], v[6], v[7]);
}

// Keys and values of the frames, (windows * frames, 2 * heads * d_head), to what decoding reads:
// for each window keys (heads, padded, d_head), then values (heads, d_head, padded). What pads is
// zero. One block for 32 frames of one head, d_head * 4 threads.
extern "C" __global__ void split_cross(const T* kv, T* out, int frames, int padded, int heads,
                                       int d_head) {
    __shared__ T tile[32][72];
    wait_for_previous();
    const int first = blockIdx.x * 32, head = blockIdx.y;
    const size_t window = blockIdx.z;
    const int width = heads * d_head, chunks = d_head / 8;
    T* keys = out + window * 2 * padded * width + (size_t)head * padded * d_head;
    T* values = keys + (size_t)padded * width;
    for (int at = threadIdx.x; at < 32 * chunks; at += blockDim.x) {
        const int frame = at / chunks, chunk = at % chunks;
        uint4 k = make_uint4(0, 0, 0, 0), v = k;
        if (first + frame < frames) {
            const T* from = kv + (window * frames + first + frame) * 2 * width + head * d_head;
            k = load16(from + 8 * chunk);
            v = load16(from + width + 8 * chunk);
        }
        store16(keys + (size_t)(first + frame) * d_head + 8 * chunk, k);
        store16(&tile[frame][8 * chunk], v);
    }
    __syncthreads();
    for (int at = threadIdx.x; at < d_head * 4; at += blockDim.x) {
        const int column = at / 4, chunk = at % 4;
        __align__(16) T v[8];
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = tile[8 * chunk + j][column];
        store16(values + (size_t)column * padded + first + 8 * chunk, *reinterpret_cast<uint4*>(v));
    }
}
