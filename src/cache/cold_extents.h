// Where the blocks of one head lie in its tier's files: in extents of adjacent
// blocks, as long as what came at once, so that most neighbours are read
// together. Files are numbered as in ColdShared.
//
// Thread-compatible.

#ifndef PYRAMIDKV_CACHE_COLD_EXTENTS_H_
#define PYRAMIDKV_CACHE_COLD_EXTENTS_H_

#include <cstdint>
#include <vector>

#include "cache/block_file.h"

namespace pyramidkv {

class ColdExtents {
 public:
  // Where entries come one by one. Unused blocks of it are the price.
  static constexpr int kLeastBlocks = 16;

  // Makes room for `blocks` in all, in file `number`, which is `file`. Errors:
  // kRuntime if the disk is full; nothing has changed.
  Status Reserve(int blocks, int number, BlockFile* file);

  // The first `blocks` alone, without room for more: the rest of the room stays
  // with these extents.
  ColdExtents First(int blocks) const;

  // REQUIRES: there is room for this block.
  int64_t Offset(int block, size_t block_bytes) const;
  int File(int block) const { return Find(block).file; }
  // How many from `block` on lie behind one another, at most `most`.
  int Adjacent(int block, int most) const;

  int blocks() const;
  int64_t bytes() const {
    return static_cast<int64_t>(extents_.capacity() * sizeof(Extent));
  }

 private:
  struct Extent {
    uint64_t offset : 48;
    uint64_t file : 16;  // more than a process has descriptors for
    int first = 0;       // block
    int count = 0;
  };
  const Extent& Find(int block) const;

  std::vector<Extent> extents_;  // ascending
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_EXTENTS_H_
