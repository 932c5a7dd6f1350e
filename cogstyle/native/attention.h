// Attention of rows that are written to a memory of keys and values and then read a range of it.
#pragma once

#include <vector>

#include "vectors.h"

struct Memory {       // of one layer and channel, for every sequence and head
    void* keys;       // [sequences * heads, slots / SLOTS, head width, SLOTS]
    void* values;     // [sequences * heads, slots, head width]
    int64_t slots;    // a multiple of SLOTS
    int32_t half;     // bfloat16, else float32
    int32_t unused;
};

struct Channel {             // where rows are written, and what they read, in runs of one kind
    const int32_t* slot;     // [rows] own slot; of a text row its place in the text
    const int32_t* start;    // [rows] where the run starts: with the text
    const int32_t* stop;     // [rows] behind the last slot that is read
    const int32_t* starts;   // [runs] of all runs: text goes to each
    int32_t runs, unused;
};

// softmax(q k / sqrt(width) + bias of text keys) v for Q rows of one sequence, head and run. Sums go from slot to slot
// in an order that neither the other rows nor padding can change.
template <class E, int Q>
struct Reader {
    const E *keys, *values;
    int width, first, text_end;  // the first slot that is read, and where the run's text ends
    int unseen;                  // slots before that end that are not read
    float bias;
    const float* q;  // of the first row, `row` numbers before that of the next
    int64_t row;
    float* out;      // likewise, a third as far
    int stop[Q];

    void operator()(std::vector<float>& scores) const {
        int last = stop[0];
        for (int n = 1; n < Q; n++) last = stop[n] > last ? stop[n] : last;
        const int from = first / SLOTS * SLOTS, count = (last - from + SLOTS - 1) / SLOTS * SLOTS;
        if (scores.size() < size_t(Q) * count) scores.resize(size_t(Q) * count);
        for (int at = 0; at < count; at += SLOTS) score(keys + int64_t(from + at) * width, &scores[at], count);
        float share[Q];
        for (int n = 0; n < Q; n++) share[n] = 1 / weigh(&scores[n * count], from, count, stop[n]);
        for (int h = 0; h < width;) {
            const int left = (width - h) / LANES;
            if (left >= 4) mix<4>(scores.data(), from, count, share, h), h += 4 * LANES;
            else if (left >= 2) mix<2>(scores.data(), from, count, share, h), h += 2 * LANES;
            else mix<1>(scores.data(), from, count, share, h), h += LANES;
        }
    }

private:
    void score(const E* block, float* scores, int count) const {  // one block of keys
        constexpr int PARTS = SLOTS / LANES;
        Floats sums[Q][PARTS][CHAINS] = {};
        for (int h = 0; h < width; h += CHAINS) {
            __builtin_prefetch((const char*)(block + h * SLOTS) + AHEAD);
            for (int chain = 0; chain < CHAINS; chain++)
                for (int part = 0; part < PARTS; part++) {
                    const Floats key = load(block + (h + chain) * SLOTS + part * LANES);
                    for (int n = 0; n < Q; n++) sums[n][part][chain] += q[n * row + h + chain] * key;
                }
        }
        const float scale = 1 / std::sqrt(float(width));
        for (int n = 0; n < Q; n++)
            for (int part = 0; part < PARTS; part++) {
                Floats total = sums[n][part][0];
                for (int chain = 1; chain < CHAINS; chain++) total += sums[n][part][chain];
                store(scores + n * count + part * LANES, total * scale);
            }
    }

    float weigh(float* scores, int from, int count, int stop) const {  // scores -> exponentials; their sum
        for (int slot = from; slot < first; slot++) scores[slot - from] = -INFINITY;
        for (int slot = text_end - unseen; slot < text_end; slot++) scores[slot - from] = -INFINITY;
        for (int at = stop - from; at < count; at++) scores[at] = -INFINITY;
        if (bias != 0)
            for (int slot = first; slot < text_end; slot++) scores[slot - from] += bias;
        Floats most = all(-INFINITY), total{};
        for (int at = 0; at < count; at += LANES) most = larger(load(scores + at), most);
        const Floats top = all(largest(most));
        for (int at = 0; at < count; at += LANES) {
            const Floats weight = exponential(load(scores + at) - top);
            store(scores + at, weight);
            total += weight;
        }
        return sum(total);
    }

    template <int C>
    void mix(const float* scores, int from, int count, const float* share, int h) const {  // C vectors of the width
        Floats sums[Q][C] = {};
        for (int at = 0; at < count; at++) {
            const E* value = values + int64_t(from + at) * width + h;
            __builtin_prefetch((const char*)value + AHEAD);
            for (int c = 0; c < C; c++) {
                const Floats v = load(value + c * LANES);
                for (int n = 0; n < Q; n++) sums[n][c] += scores[n * count + at] * v;
            }
        }
        for (int n = 0; n < Q; n++)
            for (int c = 0; c < C; c++) store(out + n * (row / 3) + h + c * LANES, sums[n][c] * share[n]);
    }
};

struct Heads {  // how queries, keys and values lie in rows [3, heads, width]
    int heads, width;
    int row() const { return heads * width; }
};

// Put keys and values of all rows into their slots; the first `texts` rows are text.
template <class E>
static void write(const Memory& memory, const Channel& channel, Heads shape, const float* qkv, int rows, int texts,
                  const int32_t* sequence) {
    const int width = shape.width;
    for (int r = 0; r < rows; r++)
        for (int copy = 0; copy < (r < texts ? channel.runs : 1); copy++)
            for (int head = 0; head < shape.heads; head++) {
                const int64_t slot = channel.slot[r] + (r < texts ? channel.starts[copy] : 0);
                const int64_t base = (int64_t(sequence[r]) * shape.heads + head) * memory.slots * width;
                const float* k = qkv + (int64_t(r) * 3 + 1) * shape.row() + head * width;
                const float* v = k + shape.row();
                E* key = (E*)memory.keys + base + slot / SLOTS * SLOTS * width + slot % SLOTS;
                E* value = (E*)memory.values + base + slot * width;
                for (int h = 0; h < width; h++) key[h * SLOTS] = rounded(k[h], key);
                for (int h = 0; h < width; h += LANES) store(value + h, load(v + h));
            }
}

struct Reading {  // what all rows of a call share
    const int32_t *sequence, *pad;  // [rows]; [sequences] slots of a run's text that are padding
    int32_t text, unseen;           // slots of a run's text; so many of its last ones are not read
    float bias;                     // added to scores of text keys
    int32_t unused;
};

template <class E, int Q>
static void read_some(const Memory& memory, const Channel& channel, Heads shape, const float* qkv, float* out, int r,
                      int count, const Reading& reading, std::vector<float>& scores) {
    if (count < Q) {
        if constexpr (Q > 1) read_some<E, Q - 1>(memory, channel, shape, qkv, out, r, count, reading, scores);
        return;
    }
    const int sequence = reading.sequence[r], start = channel.start[r];
    for (int head = 0; head < shape.heads; head++) {
        const int64_t base = (int64_t(sequence) * shape.heads + head) * memory.slots * shape.width;
        Reader<E, Q> reader = {(const E*)memory.keys + base, (const E*)memory.values + base, shape.width,
                               start + reading.pad[sequence], start + reading.text, reading.unseen, reading.bias,
                               qkv + int64_t(r) * 3 * shape.row() + head * shape.width, 3 * shape.row(),
                               out + int64_t(r) * shape.row() + head * shape.width, {}};
        for (int n = 0; n < Q; n++) reader.stop[n] = channel.stop[r + n];
        reader(scores);
    }
}

// out [rows, heads * width] of the rows from `first` on; rows of one run that follow each other are read together.
template <class E>
static void read(const Memory& memory, const Channel& channel, Heads shape, const float* qkv, float* out, int first,
                 int rows, const Reading& reading) {
    std::vector<float> scores;
    for (int r = first, count; r < rows; r += count) {
        for (count = 1; count < QUERIES && r + count < rows; count++)
            if (reading.sequence[r + count] != reading.sequence[r] || channel.start[r + count] != channel.start[r]) break;
        read_some<E, QUERIES>(memory, channel, shape, qkv, out, r, count, reading, scores);
    }
}
