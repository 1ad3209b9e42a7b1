// Checksums of session files, which the writer, the reader and tests that
// forge files have to agree on.

#ifndef PYRAMIDKV_RUNTIME_SESSION_CHECKSUM_H_
#define PYRAMIDKV_RUNTIME_SESSION_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/session_file.h"

namespace pyramidkv {

// Leaves out the header's last 8 bytes.
uint64_t HeaderChecksum(std::span<const std::byte> header);

uint64_t ChunkChecksum(const SessionFileId& id, uint32_t index,
                       std::span<const std::byte> bytes);

// footer: without its own last 8 bytes. parts: the header's checksum, then
// those of all chunks.
uint64_t FooterChecksum(std::span<const uint64_t> parts,
                        std::span<const std::byte> footer);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SESSION_CHECKSUM_H_
