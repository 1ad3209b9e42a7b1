#include "runtime/session_checksum.h"

#include <xxhash.h>

#include <array>

namespace pyramidkv {

uint64_t HeaderChecksum(std::span<const std::byte> header) {
  return XXH3_64bits(header.data(), header.size());
}

uint64_t ChunkChecksum(const SessionFileId& id, uint32_t index,
                       std::span<const std::byte> bytes) {
  const std::array<uint64_t, 5> place = {id.session[0], id.session[1],
                                         id.generation, index, bytes.size()};
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(),
                              XXH3_64bits(place.data(), sizeof(place)));
}

uint64_t FooterChecksum(std::span<const uint64_t> parts,
                        std::span<const std::byte> footer) {
  return XXH3_64bits_withSeed(footer.data(), footer.size(),
                              XXH3_64bits(parts.data(), parts.size_bytes()));
}

}  // namespace pyramidkv
