// What the kernels share: the number format, packed loads, tensor core products, launch overlap.
//
// T is half (or bfloat16 with ECHO_BF16); sums are f32. Products use mma.sync m16n8k16. Where both
// operands of a product are read straight from memory, a thread takes 16 bytes, 8 values in a row
// along k, and feeds them to two products: the order of k is the same on both sides, so the sum is
// the same, and every load is a full vector. "g" is a thread's group of four (lane / 4), "t" its
// place in it (lane % 4), as in the PTX manual's figures.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#ifdef ECHO_BF16
typedef __nv_bfloat16 T;
typedef __nv_bfloat162 T2;
__device__ __forceinline__ float2 widen2(T2 v) { return __bfloat1622float2(v); }
__device__ __forceinline__ T2 narrow2(float a, float b) { return __floats2bfloat162_rn(a, b); }
__device__ __forceinline__ float widen(T v) { return __bfloat162float(v); }
__device__ __forceinline__ T narrow(float v) { return __float2bfloat16_rn(v); }
#define ECHO_MMA "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#else
typedef half T;
typedef half2 T2;
__device__ __forceinline__ float2 widen2(T2 v) { return __half22float2(v); }
__device__ __forceinline__ T2 narrow2(float a, float b) { return __floats2half2_rn(a, b); }
__device__ __forceinline__ float widen(T v) { return __half2float(v); }
__device__ __forceinline__ T narrow(float v) { return __float2half_rn(v); }
#define ECHO_MMA "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#endif

constexpr float MINUS_INFINITY = -__builtin_huge_valf();
constexpr float EPSILON = 1e-5f;

__device__ __forceinline__ uint32_t pack(float a, float b) {
    T2 v = narrow2(a, b);
    return *reinterpret_cast<uint32_t*>(&v);
}

__device__ __forceinline__ float2 unpack(uint32_t v) { return widen2(*reinterpret_cast<T2*>(&v)); }

__device__ __forceinline__ void unpack8(uint4 v, float* out) {
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 pair = unpack(words[i]);
        out[2 * i] = pair.x;
        out[2 * i + 1] = pair.y;
    }
}

__device__ __forceinline__ uint4 pack8(const float* v) {
    return make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
}

__device__ __forceinline__ uint4 load16(const T* at) { return *reinterpret_cast<const uint4*>(at); }
__device__ __forceinline__ void store16(T* at, uint4 v) { *reinterpret_cast<uint4*>(at) = v; }

// What is read once and never written by a kernel that may still run: past the first cache.
__device__ __forceinline__ uint4 stream16(const T* at) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(at));
    return v;
}

// d (16 x 8) += a (16 x 16) b (16 x 8).
__device__ __forceinline__ void mma(float* d, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                    uint32_t b0, uint32_t b1) {
    asm volatile(ECHO_MMA " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The product over 32 values of k, of which each thread holds 8 for rows g and g + 8 of a and
// column g of b.
__device__ __forceinline__ void mma32(float* d, uint4 low, uint4 high, uint4 b) {
    mma(d, low.x, high.x, low.y, high.y, b.x, b.y);
    mma(d, low.z, high.z, low.w, high.w, b.z, b.w);
}

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float gelu(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(~0u, v, offset);
    return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, offset));
    return v;
}

// Programmatic dependent launch: a kernel launched so may begin while the one before still runs.
// Before `wait_for_previous` it reads only what no kernel of the same step writes (weights, keys
// and values of the frames); the next one may begin after it, so at most two overlap.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
