// A regular file mapped read-only. Pages are shared with every process that
// maps the same file. Immutable; may be read from any thread. A file that
// somebody truncates while it is mapped cannot be guarded against.

#ifndef PYRAMIDKV_MODEL_MAPPED_FILE_H_
#define PYRAMIDKV_MODEL_MAPPED_FILE_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "pyramidkv/status.h"

namespace pyramidkv {

class MappedFile {
 public:
  // Errors: kModel for what is missing, unreadable, empty or not a regular
  // file, with the path.
  static Result<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

  // Takes the pages out of this process's memory; reading brings them back
  // from the system's cache.
  void DropPages() const;

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_MAPPED_FILE_H_
