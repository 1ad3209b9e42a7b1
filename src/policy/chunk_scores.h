// Chunks instead of single entries: neighbours stay or leave together.
//
// Source: ChunkKV (arXiv 2502.00299), algorithm 1, and NVIDIA kvpress,
// chunkkv_press.py. Departures: the budget is in entries, not in chunks, so
// the last chunk that fits may be cut (kvpress keeps whole ones and misses
// the budget); nothing changes for a head shorter than a chunk.

#ifndef PYRAMIDKV_POLICY_CHUNK_SCORES_H_
#define PYRAMIDKV_POLICY_CHUNK_SCORES_H_

#include <span>
#include <vector>

namespace pyramidkv {

inline constexpr int kChunkLength = 20;  // kvpress' default

// Cuts the entries into chunks of `length` from entry 0 on, and gives every
// entry of every KV head the chunk's score: the mean over its entries of the
// sum over heads. A shorter chunk at the end takes its own mean. All heads
// then rank the same, and choosing by (score descending, index ascending)
// takes chunk after chunk. A chunk with a NaN ranks lowest.
//
// Marks of protected entries, such as a largest float, would carry their whole
// chunk: protect entries by other means.
// scores: [kv_heads] of [n], the same n for all. REQUIRES: length > 0.
void ChunkScores(int length, std::span<std::vector<float>> scores);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_CHUNK_SCORES_H_
