// Some rows through all layers of the dual-channel transformer, in one call: `cogstyle.model.fast_path` in C++.
//
// A row is a place of a sequence: a new token, or text and known frames at the start. Nothing is allocated that outlives
// a call; weights, memories and results belong to the caller, who hands in pointers.
#include "attention.h"
#include "linear.h"

struct Norm {                   // LayerNorm; without bias RMSNorm; without weight none at all
    const float *weight, *bias;
};

struct Layer {
    Matrix qkv, dense, up, down, own_qkv, own_dense;  // own: the adapter's
    Matrix swish;              // the inner rows are silu(swish x) * up x; without weights gelu(up x)
    Norm norm1, norm2, norm3, norm4;
    const float* gate;        // [width] share of the spatial channel; null without an adapter
    int32_t temporal, unused;  // which channel the adapter reads
};

struct Model {
    const Layer* layers;
    Norm norm;
    Matrix head;
    int32_t count, width, heads, inner;
    float eps;
    int32_t unused;
};

struct Call {
    const float* x;           // [rows, width] embedded
    float* logits;            // [rows, codes]; null: only the memory is filled
    const Channel* channels;  // the spatial one, then those of the adapter's windows
    const Memory* memories;   // [layers, 2] spatial, temporal
    const float *turn, *own_turn;  // [rows, head width / 2, 2] cos and sin by which pairs of q and k turn; null: not
    const float* signal;      // [rows, width] added to what the adapter reads; null: nothing
    Reading reading;
    int32_t rows, texts;      // the first are text, which has no temporal channel
};

typedef std::vector<float> Buffer;

// y = norm(x) (+ add) of every row.
static void normalize(const Norm& norm, const float* x, float* y, int rows, int width, float eps,
                      const float* add = nullptr) {
    for (int64_t r = 0; r < rows; r++, x += width, y += width, add += add ? width : 0) {
        Floats total{}, squares{};
        if (norm.bias)
            for (int i = 0; i < width; i += LANES) total += load(x + i);
        const Floats mean = all(sum(total) / width);
        for (int i = 0; i < width; i += LANES) {
            const Floats off = load(x + i) - mean;
            squares += off * off;
        }
        const float scale = 1 / std::sqrt(sum(squares) / width + eps);
        for (int i = 0; i < width; i += LANES) {
            Floats result = load(x + i);
            if (norm.weight) result = (result - mean) * scale * load(norm.weight + i);
            if (norm.bias) result += load(norm.bias + i);
            store(y + i, add ? result + load(add + i) : result);
        }
    }
}

// Turn neighbouring pairs of every head's queries and keys.
static void rotate(const float* turn, float* qkv, int rows, int heads, int width) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t head = 0; head < 2 * heads; head++) {
            float* x = qkv + (r * 3 * heads + head) * width;
            for (int h = 0; h < width; h += 2) {
                const float c = turn[r * width + h], s = turn[r * width + h + 1], one = x[h], other = x[h + 1];
                x[h] = one * c - other * s, x[h + 1] = other * c + one * s;
            }
        }
}

class Step {
public:
    Step(const Model& model, const Call& call)
        : model_(model), call_(call), rows_(call.rows), width_(model.width), x_(call.x, call.x + size()),
          h_(size()), qkv_(3 * size()), context_(size()), spatial_(size()), temporal_(size()),
          inner_(int64_t(call.rows) * model.inner) {}

    void run() {
        for (int index = 0; index < model_.count; index++) layer(index);
        if (!call_.logits) return;
        normalize(model_.norm, x_.data(), h_.data(), rows_, width_, model_.eps);
        multiply(model_.head, inputs(model_.head, h_), rows_, call_.logits);
    }

private:
    int64_t size() const { return int64_t(call_.rows) * model_.width; }
    Inputs inputs(const Matrix& m, const Buffer& x) const { return Inputs(m.kind, x.data(), rows_, m.in); }
    void norm(const Norm& norm, const Buffer& x, Buffer& y, const float* add = nullptr) const {
        normalize(norm, x.data(), y.data(), rows_, width_, model_.eps, add);
    }

    // Write keys and values of `qkv_`; unless nobody needs it, read the context.
    void attend(int index, int channel, int memory, int first, bool reads) {
        const Memory& kept = call_.memories[2 * index + memory];
        const Channel& where = call_.channels[channel];
        const Heads shape = {model_.heads, width_ / model_.heads};
        const float* turn = memory ? call_.own_turn : call_.turn;
        if (turn) rotate(turn, qkv_.data(), rows_, shape.heads, shape.width);
        auto both = [&](auto element) {
            typedef decltype(element) E;
            write<E>(kept, where, shape, qkv_.data(), rows_, call_.texts, call_.reading.sequence);
            if (reads) read<E>(kept, where, shape, qkv_.data(), context_.data(), first, rows_, call_.reading);
        };
        kept.half ? both(uint16_t{}) : both(float{});
    }

    void layer(int index) {
        const Layer& l = model_.layers[index];
        const bool reads = call_.logits || index + 1 < model_.count;
        norm(l.norm1, x_, h_);
        const Inputs h = inputs(l.qkv, h_);
        multiply(l.qkv, h, rows_, qkv_.data());
        attend(index, 0, 0, 0, reads);
        if (reads) multiply(l.dense, inputs(l.dense, context_), rows_, spatial_.data());
        if (l.gate) {
            if (call_.signal) {
                for (int64_t i = 0; i < size(); i += LANES) store(&h_[i], load(&h_[i]) + load(call_.signal + i));
                multiply(l.own_qkv, inputs(l.own_qkv, h_), rows_, qkv_.data());
            } else multiply(l.own_qkv, h, rows_, qkv_.data());
            attend(index, l.temporal, 1, call_.texts, reads);
            if (reads) mix(l);
        }
        if (!reads) return;
        norm(l.norm3, spatial_, x_, x_.data());
        norm(l.norm2, x_, h_);
        const Inputs inner = inputs(l.up, h_);
        multiply(l.up, inner, rows_, inner_.data(), !l.swish.weights);
        if (l.swish.weights) {
            swish_.resize(inner_.size());
            multiply(l.swish, inner, rows_, swish_.data());
            for (size_t i = 0; i < inner_.size(); i += LANES)
                store(&inner_[i], silu(load(&swish_[i])) * load(&inner_[i]));
        }
        multiply(l.down, inputs(l.down, inner_), rows_, spatial_.data());
        norm(l.norm4, spatial_, x_, x_.data());
    }

    void mix(const Layer& l) {  // the temporal channel into the spatial one, but for text
        multiply(l.own_dense, inputs(l.own_dense, context_), rows_, temporal_.data());
        for (int64_t r = call_.texts; r < rows_; r++)
            for (int i = 0; i < width_; i += LANES) {
                float* s = &spatial_[r * width_ + i];
                const Floats t = load(&temporal_[r * width_ + i]);
                store(s, t + load(l.gate + i) * (load(s) - t));
            }
    }

    const Model& model_;
    const Call& call_;
    const int rows_, width_;
    Buffer x_, h_, qkv_, context_, spatial_, temporal_, inner_, swish_;
};

extern "C" {
// What a caller must agree with: a number that changes with the structures above, and the sizes of blocks.
int32_t abi() { return 1000000 + int(sizeof(Model) + sizeof(Layer) + sizeof(Call) + sizeof(Channel) + sizeof(Memory)); }
int32_t block() { return BLOCK; }

// Whether this processor has what this build uses.
int32_t supported() {
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 1;
#endif
}

// Bytes of the packed weights of a matrix.
int64_t packed_bytes(int32_t kind, int32_t out, int32_t in) {
    const int group = kind == FLOAT32 ? 1 : kind == BFLOAT16 ? 2 : 4;
    return int64_t(blocks(out)) * groups(in, group) * BLOCK * 4;
}

void pack(int32_t kind, const float* w, int32_t out, int32_t in, void* weights, float* scales, int32_t* offsets) {
    if (kind == FLOAT32) pack_as<Float32>(w, out, in, weights, scales, offsets);
    else if (kind == BFLOAT16) pack_as<BFloat16>(w, out, in, weights, scales, offsets);
    else pack_as<Int8>(w, out, in, weights, scales, offsets);
}

void linear(const Matrix* m, const float* x, int32_t rows, float* y, int32_t activate) {
    multiply(*m, Inputs(m->kind, x, rows, m->in), rows, y, activate);
}

void step(const Model* model, const Call* call) { Step(*model, *call).run(); }
}
