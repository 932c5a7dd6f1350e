// Matrices packed in blocks of BLOCK outputs, so that a handful of rows meets weights in the order of memory.
//
// Every output of every row is summed from the first input to the last, whatever rows come with it: what a row gives
// does not depend on the others, in any kind of weights.
#pragma once

#include <vector>

#include "vectors.h"

enum Kind : int32_t { FLOAT32, BFLOAT16, INT8 };

struct Matrix {              // y = x W^T + bias, W [out, in]
    const void* weights;     // [blocks, in / GROUP, BLOCK, GROUP], filled up with zeros
    const float* bias;       // [blocks * BLOCK]
    const float* scales;     // [blocks * BLOCK], of 8-bit weights
    const int32_t* offsets;  // [blocks * BLOCK], where 8-bit sums start
    int32_t out, in, kind, unused;
};

static inline int blocks(int out) { return (out + BLOCK - 1) / BLOCK; }
static inline int64_t groups(int in, int group) { return (in + group - 1) / group; }

// A kind of weights: GROUP inputs lie side by side and take one 32-bit lane; `dot` adds their products to the sums.
struct Float32 {
    typedef float Weight;
    typedef Floats Sums;
    static constexpr int GROUP = 1;
    static Sums dot(Sums sums, int32_t x, const void* weights) {
        return sums + bits<float>(x) * load_as<Floats>(weights);
    }
};

struct BFloat16 {
    typedef uint16_t Weight;
    typedef Floats Sums;
    static constexpr int GROUP = 2;
    static Sums dot(Sums sums, int32_t x, const void* weights) {
#if defined(__AVX512BF16__)
        return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_set1_epi32(x), (__m512bh)_mm512_loadu_si512(weights));
#else
        Words both = load_as<Words>(weights);
        sums += bits<float>(uint32_t(x) << 16) * bits<Floats>(both << 16);
        return sums + bits<float>(uint32_t(x) & 0xffff0000) * bits<Floats>(both & 0xffff0000);
#endif
    }
};

struct Int8 {  // whole numbers: the sums are exact in any order and on any processor
    typedef int8_t Weight;
    typedef Ints Sums;
    static constexpr int GROUP = 4;
    static Sums dot(Sums sums, int32_t x, const void* weights) {
#if defined(__AVX512VNNI__)  // takes inputs without sign: 128 more than they are, which `offsets` takes off
        __m512i more = _mm512_set1_epi32(x ^ int32_t(0x80808080));
        return (Ints)_mm512_dpbusd_epi32((__m512i)sums, more, _mm512_loadu_si512(weights));
#elif defined(__AVX2__)  // the input's sign goes to the weight; two products of 127 * 127 fit into 16 bits
        __m256i inputs = _mm256_set1_epi32(x), w = _mm256_loadu_si256((const __m256i*)weights);
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(inputs), _mm256_sign_epi8(w, inputs));
        return sums + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else
        Words four = load_as<Words>(weights);
        for (int place = 0; place < 4; place++) {
            int32_t input = int8_t(uint32_t(x) >> 8 * place);
            sums += input * (bits<Ints>(four << (24 - 8 * place)) >> 24);
        }
        return sums;
#endif
    }
};

static inline int steps_of(float x, float scale) { return int(std::nearbyint(x / scale)); }

// Pack W [out, in] into `weights`; of 8 bits also fill `scales` and `offsets`. All are zero before.
template <class K>
static void pack_as(const float* w, int out, int in, void* weights, float* scales, [[maybe_unused]] int32_t* offsets) {
    const int64_t deep = groups(in, K::GROUP);
    for (int o = 0; o < out; o++, w += in) {
        auto* to = (typename K::Weight*)weights + (o / BLOCK * deep * BLOCK + o % BLOCK) * K::GROUP;
        float most = 1e-12f, finite = 0;
        for (int i = 0; i < in; i++) most = std::fabs(w[i]) > most ? std::fabs(w[i]) : most, finite += 0 * w[i];
        const float scale = most / 127 + finite;  // a weight that is no number makes all sums none
        for (int i = 0; i < in; i++) {
            auto& place = to[i / K::GROUP * BLOCK * K::GROUP + i % K::GROUP];
            if constexpr (K::GROUP == 1) place = w[i];
            if constexpr (K::GROUP == 2) place = rounded(w[i], (const uint16_t*)nullptr);
            if constexpr (K::GROUP == 4) {
                place = int8_t(scale == scale ? steps_of(w[i], scale) : 0);
#if defined(__AVX512VNNI__)
                offsets[o] -= 128 * place;
#endif
            }
        }
        if constexpr (K::GROUP == 4) scales[o] = scale;
    }
}

// Rows [count, width] in the form that a kind of weights wants.
class Inputs {
public:
    Inputs(int kind, const float* x, int count, int width) : x_((const char*)x), stride_(4 * int64_t(width)) {
        if (kind == FLOAT32) return;
        const int padded = (width + LANES - 1) / LANES * LANES;
        stride_ = int64_t(padded) * (kind == BFLOAT16 ? 2 : 1);
        bytes_.resize(count * stride_);
        scales_.resize(count);
        std::vector<float> row(padded);
        for (int r = 0; r < count; r++) {
            memcpy(row.data(), x + int64_t(r) * width, 4 * width);
            char* to = bytes_.data() + r * stride_;
            if (kind == INT8) scales_[r] = in_8_bits(row, (int8_t*)to);
            else
                for (int i = 0; i < padded; i += LANES) store((uint16_t*)to + i, load(&row[i]));
        }
        x_ = bytes_.data();
    }

    const char* row(int r) const { return x_ + r * stride_; }
    float scale(int r) const { return scales_[r]; }

private:
    static float in_8_bits(const std::vector<float>& row, int8_t* to) {
        Floats most = all(1e-12f), finite{};
        for (size_t i = 0; i < row.size(); i += LANES) {
            Floats x = load(&row[i]);
            most = larger(magnitude(x), most), finite += 0 * x;
        }
        const float scale = largest(most) / 127 + sum(finite), factor = 127 / largest(most);
        const Floats magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
        typedef int8_t Bytes __attribute__((vector_size(LANES)));
        for (size_t i = 0; i < row.size(); i += LANES) {
            Ints whole = bits<Ints>(load(&row[i]) * factor + magic) - bits<Ints>(magic);
            Bytes bytes = __builtin_convertvector(whole, Bytes);
            memcpy(to + i, &bytes, sizeof bytes);
        }
        return scale;
    }

    const char* x_;
    int64_t stride_;
    std::vector<char> bytes_;
    std::vector<float> scales_;
};

// One block of outputs of R rows.
template <class K, int R>
static void multiply_block(const Matrix& m, int block, const Inputs& x, int first, float* y, bool activate) {
    typename K::Sums sums[R][COLUMNS];
    const char* rows[R];
    for (int r = 0; r < R; r++) {
        rows[r] = x.row(first + r);
        for (int c = 0; c < COLUMNS; c++) {
            if constexpr (K::GROUP == 4) sums[r][c] = load_as<Ints>(m.offsets + block * BLOCK + c * LANES);
            else sums[r][c] = Floats{};
        }
    }
    const int64_t deep = groups(m.in, K::GROUP);
    const char* weights = (const char*)m.weights + block * deep * COLUMNS * BYTES;
    for (int64_t i = 0; i < deep; i++, weights += COLUMNS * BYTES) {
        for (int c = 0; c < COLUMNS; c++) __builtin_prefetch(weights + c * BYTES + AHEAD);
        for (int r = 0; r < R; r++) {
            const int32_t input = load_as<int32_t>(rows[r] + 4 * i);
            for (int c = 0; c < COLUMNS; c++) sums[r][c] = K::dot(sums[r][c], input, weights + c * BYTES);
        }
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < COLUMNS; c++) {
            const int o = block * BLOCK + c * LANES, left = m.out - o;
            if (left <= 0) break;
            Floats result;
            if constexpr (K::GROUP == 4)
                result = __builtin_convertvector(sums[r][c], Floats) * (load(m.scales + o) * x.scale(first + r));
            else result = sums[r][c];
            result += load(m.bias + o);
            if (activate) result = gelu(result);
            float* to = y + int64_t(first + r) * m.out + o;
            if (left >= LANES) store(to, result);
            else memcpy(to, &result, 4 * left);
        }
}

template <class K, int R>
static void multiply_rows(const Matrix& m, int block, const Inputs& x, int first, int count, float* y, bool activate) {
    if (count == R) return multiply_block<K, R>(m, block, x, first, y, activate);
    if constexpr (R > 1) multiply_rows<K, R - 1>(m, block, x, first, count, y, activate);
}

template <class K>
static void multiply_as(const Matrix& m, const Inputs& x, int count, float* y, bool activate) {
    for (int block = 0; block < blocks(m.out); block++)
        for (int first = 0; first < count; first += ROWS)
            multiply_rows<K, ROWS>(m, block, x, first, count - first < ROWS ? count - first : ROWS, y, activate);
}

// y [count, out] = x W^T + bias, and GELU if `activate`.
static void multiply(const Matrix& m, const Inputs& x, int count, float* y, bool activate = false) {
    if (m.kind == FLOAT32) multiply_as<Float32>(m, x, count, y, activate);
    else if (m.kind == BFLOAT16) multiply_as<BFloat16>(m, x, count, y, activate);
    else multiply_as<Int8>(m, x, count, y, activate);
}
