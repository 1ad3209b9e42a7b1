// The keys of one architecture in a GGUF file, with defaults and limits.

#ifndef PYRAMIDKV_MODEL_KEY_READER_H_
#define PYRAMIDKV_MODEL_KEY_READER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "model/gguf_file.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// Names are those behind "ARCHITECTURE."; errors are those of GgufFile and
// name the whole key.
class KeyReader {
 public:
  // `file` must outlive this.
  KeyReader(const GgufFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  const GgufFile& file() const { return file_; }
  std::string Key(std::string_view name) const;
  bool Has(std::string_view name) const { return file_.Has(Key(name)); }

  Result<int64_t> Int(std::string_view name, int64_t min, int64_t max) const;
  Result<int64_t> IntOr(std::string_view name, int64_t otherwise, int64_t min,
                        int64_t max) const;
  Result<double> Float(std::string_view name, double min, double max) const;
  Result<double> FloatOr(std::string_view name, double otherwise, double min,
                         double max) const;

  // Nothing but `neutral` is supported. Some writers store 0 for "not used".
  Status RefuseOtherThan(std::string_view name, double neutral) const;
  // The same for a number that all layers share.
  Status RefuseOtherSize(std::string_view name, int64_t expected) const;

 private:
  const GgufFile& file_;
  std::string architecture_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_KEY_READER_H_
