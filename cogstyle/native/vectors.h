// Vectors as wide as this build's instruction set has them, by the vector extensions of GCC and Clang.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int BYTES = 64, COLUMNS = 4, ROWS = 6, CHAINS = 4, QUERIES = 4;  // 32 registers
#elif defined(__AVX2__)
constexpr int BYTES = 32, COLUMNS = 2, ROWS = 6, CHAINS = 2, QUERIES = 2;  // 16 registers
#else
constexpr int BYTES = 16, COLUMNS = 2, ROWS = 4, CHAINS = 1, QUERIES = 2;
#endif
constexpr int LANES = BYTES / 4;          // numbers of a vector
constexpr int BLOCK = COLUMNS * LANES;    // outputs of a matrix that are computed side by side
constexpr int SLOTS = 16;                 // slots of a memory whose keys lie side by side
constexpr int AHEAD = 4096;               // bytes that are asked for before they are needed

typedef float Floats __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));
typedef uint32_t Words __attribute__((vector_size(BYTES)));
typedef uint16_t Halves __attribute__((vector_size(BYTES / 2)));  // bfloat16: the upper half of a float32

template <class To, class From>
static inline To bits(const From& from) {  // the same bits as another type
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

template <class V>
static inline V load_as(const void* from) {
    V to;
    memcpy(&to, from, sizeof to);
    return to;
}

static inline Floats load(const float* from) { return load_as<Floats>(from); }
static inline Floats load(const uint16_t* from) {
    return bits<Floats>(__builtin_convertvector(load_as<Halves>(from), Words) << 16);
}
static inline void store(float* to, Floats x) { memcpy(to, &x, sizeof x); }
static inline void store(uint16_t* to, Floats x) {  // to the nearest, of two as near to the even one
    Words word = bits<Words>(x);
    Halves half = __builtin_convertvector((word + 0x7fff + (word >> 16 & 1)) >> 16, Halves);
    memcpy(to, &half, sizeof half);
}
static inline float rounded(float x, const float*) { return x; }
static inline uint16_t rounded(float x, const uint16_t*) {
    uint32_t word = bits<uint32_t>(x);
    return uint16_t((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

static inline Floats all(float x) { return x - Floats{}; }
static inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
static inline Floats magnitude(Floats x) { return bits<Floats>(bits<Words>(x) & 0x7fffffff); }

static inline float sum(Floats x) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += x[lane];
    return total;
}

static inline float largest(Floats x) {
    float most = x[0];
    for (int lane = 1; lane < LANES; lane++) most = x[lane] > most ? x[lane] : most;
    return most;
}

// e^x to about 1e-7 of its value: 2^n times a polynomial (Cephes); 0 below -87, -inf included.
static inline Floats exponential(Floats x) {
    const Floats tiny = all(-87.0f), magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    Floats inside = larger(x, tiny);
    inside = inside < 88.0f ? inside : all(88.0f);
    Floats shifted = inside * 1.44269504f + magic, n = shifted - magic;
    Floats r = inside - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    Ints power = (bits<Ints>(shifted) - bits<Ints>(magic) + 127) << 23;
    return x < tiny ? Floats{} : p * bits<Floats>(power);
}

static inline Floats gelu(Floats x) {  // as tanh approximates it: x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))
    return x / (1.0f + exponential(x * -1.5957691216f * (1.0f + 0.044715f * x * x)));
}

static inline Floats silu(Floats x) { return x / (1.0f + exponential(-x)); }
