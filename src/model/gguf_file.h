// A GGUF file: typed access to its keys, and its table of tensors as views of
// the mapped file. The bridge to ggml's gguf.h, whose getters abort on a
// wrong type; these return a Status that names the key. Immutable; may be
// read from any thread.

#ifndef PYRAMIDKV_MODEL_GGUF_FILE_H_
#define PYRAMIDKV_MODEL_GGUF_FILE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/mapped_file.h"
#include "pyramidkv/status.h"

struct gguf_context;

namespace pyramidkv {

struct GgufTensor {
  std::string name;
  int type = 0;                    // a ggml_type
  std::array<int64_t, 4> ne = {};  // ggml's order: innermost first; unused: 1
  uint64_t offset = 0;             // of the data, from the start of the file
  uint64_t bytes = 0;

  int64_t elements() const { return ne[0] * ne[1] * ne[2] * ne[3]; }
};

class GgufFile {
 public:
  // Errors: kModel for what is not a readable, well-formed GGUF file, or is
  // one part of several.
  static Result<std::unique_ptr<GgufFile>> Open(const std::string& path);
  ~GgufFile();

  const std::string& path() const { return path_; }
  uint64_t file_bytes() const { return mapping_->bytes().size(); }

  // kModel, "PATH: what".
  Status Error(std::string_view what) const;

  bool Has(const std::string& key) const;

  // The value of a key of any integer type, within [min, max].
  Result<int64_t> Int(const std::string& key, int64_t min, int64_t max) const;
  // The same of an array with one value per layer that are all equal, or of a
  // single value.
  Result<int64_t> UniformInt(const std::string& key, int64_t layers,
                             int64_t min, int64_t max) const;
  // The value of a key of a floating-point type; finite.
  Result<double> Float(const std::string& key) const;
  Result<bool> Bool(const std::string& key) const;
  bool IsArray(const std::string& key) const;
  // The elements of an array of bool or of any integer type, not 0 as true.
  Result<std::vector<bool>> Flags(const std::string& key) const;
  Result<std::string> String(const std::string& key) const;
  // The elements stay valid as long as the file.
  Result<std::vector<const char*>> Strings(const std::string& key) const;
  Result<std::span<const float>> Floats(const std::string& key) const;
  Result<std::span<const int32_t>> Ints(const std::string& key) const;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* FindTensor(const std::string& name) const;
  // Errors: kModel if any tensor's data reaches past the end of the file.
  Status CheckTensorData() const;
  // REQUIRES: CheckTensorData().ok() and the mapping not taken.
  const std::byte* Data(const GgufTensor& tensor) const;

  // Leaves the file without its mapping: only the destructor may follow.
  std::unique_ptr<MappedFile> TakeMapping() { return std::move(mapping_); }

 private:
  GgufFile(const std::string& path, std::unique_ptr<MappedFile> mapping,
           gguf_context* context);

  Result<int64_t> Find(const std::string& key) const;
  std::string TypeName(int64_t id) const;
  Status WrongType(const std::string& key, int64_t id,
                   std::string_view expected) const;
  Result<int64_t> FindArray(const std::string& key, int element_type,
                            std::string_view expected) const;
  Result<int64_t> IntAt(const std::string& key, int64_t id, int64_t min,
                        int64_t max) const;
  Status CheckNotSplit() const;
  void ReadTensors();

  std::string path_;
  std::unique_ptr<MappedFile> mapping_;
  gguf_context* context_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_GGUF_FILE_H_
