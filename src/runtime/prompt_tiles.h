// How the rows of a prompt are cut: into tiles that a worker takes through a
// layer, and into waves of tiles that make one step of a pass.

#ifndef PYRAMIDKV_RUNTIME_PROMPT_TILES_H_
#define PYRAMIDKV_RUNTIME_PROMPT_TILES_H_

#include "runtime/forward_context.h"

namespace pyramidkv {

// Rows of a tile of a prompt of `rows`: as many as there may be, or fewer where
// that shares a short prompt out better among the threads.
int TileRows(const ForwardContext& context, int rows);

// Tiles of a wave that sees no entries yet: tens of milliseconds, and enough
// for every thread.
int MostWaveTiles(const ForwardContext& context, int tile_rows);

// Tiles that take as long where their rows see `entries`; at least one for
// every thread.
int AffordableTiles(const ForwardContext& context, int tile_rows, int entries);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_PROMPT_TILES_H_
