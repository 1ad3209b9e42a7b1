#include "model/gguf_file.h"

#include <fmt/format.h>
#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <optional>

#include "base/check.h"
#include "model/gguf_check.h"

namespace pyramidkv {
namespace {

// Element `i` of an array or, with i = 0, a scalar. Nothing for types that
// are no integers. Beyond int64 saturates: no range that is asked for is
// that wide.
template <typename T>
int64_t Load(const void* data, size_t i) {
  return static_cast<const T*>(data)[i];
}

std::optional<int64_t> IntegerAt(gguf_type type, const void* data, size_t i) {
  switch (type) {
    case GGUF_TYPE_UINT8:
      return Load<uint8_t>(data, i);
    case GGUF_TYPE_INT8:
      return Load<int8_t>(data, i);
    case GGUF_TYPE_UINT16:
      return Load<uint16_t>(data, i);
    case GGUF_TYPE_INT16:
      return Load<int16_t>(data, i);
    case GGUF_TYPE_UINT32:
      return Load<uint32_t>(data, i);
    case GGUF_TYPE_INT32:
      return Load<int32_t>(data, i);
    case GGUF_TYPE_INT64:
      return Load<int64_t>(data, i);
    case GGUF_TYPE_UINT64: {
      constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
      return static_cast<int64_t>(
          std::min(static_cast<const uint64_t*>(data)[i], kMax));
    }
    default:
      return std::nullopt;
  }
}

// The first part's name, if `path` is named like a part: NAME-00002-of-00003.
std::string FirstPart(const std::string& path) {
  constexpr std::string_view kTail = "-00001-of-00001.gguf";
  if (path.size() <= kTail.size()) return path;
  const size_t at = path.size() - kTail.size();
  if (path[at] != '-' || path.compare(at + 6, 4, "-of-") != 0) return path;
  return path.substr(0, at) + "-00001" + path.substr(at + 6);
}

}  // namespace

GgufFile::GgufFile(const std::string& path, std::unique_ptr<MappedFile> mapping,
                   gguf_context* context)
    : path_(path), mapping_(std::move(mapping)), context_(context) {}

GgufFile::~GgufFile() { gguf_free(context_); }

Result<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  PKV_ASSIGN_OR_RETURN(auto mapping, MappedFile::Open(path));
  PKV_RETURN_IF_ERROR(CheckGgufHeader(path, mapping->bytes()));
  gguf_context* context = nullptr;
  try {  // ggml allocates with new
    context =
        gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr});
  } catch (const std::exception&) {
  }
  if (context == nullptr) {
    return Status::Model(
        fmt::format("{}: its header is damaged: ggml cannot read it", path));
  }
  std::unique_ptr<GgufFile> file(
      new GgufFile(path, std::move(mapping), context));
  PKV_RETURN_IF_ERROR(file->CheckNotSplit());
  file->ReadTensors();
  return file;
}

Status GgufFile::Error(std::string_view what) const {
  return Status::Model(fmt::format("{}: {}", path_, what));
}

Status GgufFile::CheckNotSplit() const {
  if (!Has("split.count")) return {};
  constexpr int kMaxParts = 65535;
  PKV_ASSIGN_OR_RETURN(const int64_t count, Int("split.count", 0, kMaxParts));
  if (count <= 1) return {};
  return Error(
      fmt::format("is one of {} parts of a split model; join them with: "
                  "llama-gguf-split --merge {} OUT.gguf",
                  count, FirstPart(path_)));
}

void GgufFile::ReadTensors() {
  const int64_t count = gguf_get_n_tensors(context_);
  const uint64_t data_offset = gguf_get_data_offset(context_);
  tensors_.resize(count);
  for (int64_t i = 0; i < count; ++i) {
    GgufTensor& tensor = tensors_[i];
    tensor.name = gguf_get_tensor_name(context_, i);
    tensor.type = gguf_get_tensor_type(context_, i);
    const int64_t* ne = gguf_get_tensor_ne(context_, i);
    std::copy(ne, ne + tensor.ne.size(), tensor.ne.begin());
    tensor.offset = data_offset + gguf_get_tensor_offset(context_, i);
    tensor.bytes = gguf_get_tensor_size(context_, i);
    tensor_index_[tensor.name] = i;
  }
}

bool GgufFile::Has(const std::string& key) const {
  return gguf_find_key(context_, key.c_str()) >= 0;
}

Result<int64_t> GgufFile::Find(const std::string& key) const {
  const int64_t id = gguf_find_key(context_, key.c_str());
  if (id < 0) return Error(fmt::format("key {} is missing", key));
  return id;
}

std::string GgufFile::TypeName(int64_t id) const {
  const gguf_type type = gguf_get_kv_type(context_, id);
  if (type != GGUF_TYPE_ARRAY) return gguf_type_name(type);
  return fmt::format("array of {}",
                     gguf_type_name(gguf_get_arr_type(context_, id)));
}

Status GgufFile::WrongType(const std::string& key, int64_t id,
                           std::string_view expected) const {
  return Error(fmt::format("key {} has type {}, expected {}", key, TypeName(id),
                           expected));
}

Result<int64_t> GgufFile::IntAt(const std::string& key, int64_t id, int64_t min,
                                int64_t max) const {
  const gguf_type type = gguf_get_kv_type(context_, id);
  std::optional<int64_t> value;
  if (type != GGUF_TYPE_STRING && type != GGUF_TYPE_ARRAY) {
    value = IntegerAt(type, gguf_get_val_data(context_, id), 0);
  }
  if (!value) return WrongType(key, id, "an integer");
  if (*value < min || *value > max) {
    return Error(
        fmt::format("key {} is {}, expected {} to {}", key, *value, min, max));
  }
  return *value;
}

Result<int64_t> GgufFile::Int(const std::string& key, int64_t min,
                              int64_t max) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id, Find(key));
  return IntAt(key, id, min, max);
}

Result<int64_t> GgufFile::UniformInt(const std::string& key, int64_t layers,
                                     int64_t min, int64_t max) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id, Find(key));
  if (gguf_get_kv_type(context_, id) != GGUF_TYPE_ARRAY) {
    return IntAt(key, id, min, max);
  }
  const gguf_type type = gguf_get_arr_type(context_, id);
  const int64_t count = gguf_get_arr_n(context_, id);
  if (count != layers) {
    return Error(
        fmt::format("key {} has {} values, expected one for each of "
                    "{} layers",
                    key, count, layers));
  }
  if (type == GGUF_TYPE_STRING) return WrongType(key, id, "integers");
  const void* data = gguf_get_arr_data(context_, id);
  const std::optional<int64_t> first = IntegerAt(type, data, 0);
  if (!first) return WrongType(key, id, "integers");
  for (int64_t i = 1; i < count; ++i) {
    const int64_t value = *IntegerAt(type, data, i);
    if (value != *first) {
      return Error(fmt::format(
          "key {} is {} for layer 0 and {} for layer {}; layers that differ "
          "are not supported",
          key, *first, value, i));
    }
  }
  if (*first < min || *first > max) {
    return Error(
        fmt::format("key {} is {}, expected {} to {}", key, *first, min, max));
  }
  return *first;
}

Result<double> GgufFile::Float(const std::string& key) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id, Find(key));
  double value = 0;
  switch (gguf_get_kv_type(context_, id)) {
    case GGUF_TYPE_FLOAT32:
      value = gguf_get_val_f32(context_, id);
      break;
    case GGUF_TYPE_FLOAT64:
      value = gguf_get_val_f64(context_, id);
      break;
    default:
      return WrongType(key, id, "f32");
  }
  if (!std::isfinite(value)) {
    return Error(
        fmt::format("key {} is {}, expected a finite number", key, value));
  }
  return value;
}

Result<bool> GgufFile::Bool(const std::string& key) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id, Find(key));
  if (gguf_get_kv_type(context_, id) != GGUF_TYPE_BOOL) {
    return WrongType(key, id, "bool");
  }
  return gguf_get_val_bool(context_, id);
}

bool GgufFile::IsArray(const std::string& key) const {
  const int64_t id = gguf_find_key(context_, key.c_str());
  return id >= 0 && gguf_get_kv_type(context_, id) == GGUF_TYPE_ARRAY;
}

Result<std::vector<bool>> GgufFile::Flags(const std::string& key) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id, Find(key));
  std::vector<bool> flags;
  if (!IsArray(key)) return WrongType(key, id, "array of bool");
  gguf_type type = gguf_get_arr_type(context_, id);
  if (type == GGUF_TYPE_BOOL) type = GGUF_TYPE_INT8;  // how it is stored
  for (size_t i = 0; i < gguf_get_arr_n(context_, id); ++i) {
    std::optional<int64_t> value;
    if (type != GGUF_TYPE_STRING) {
      value = IntegerAt(type, gguf_get_arr_data(context_, id), i);
    }
    if (!value) return WrongType(key, id, "array of bool");
    flags.push_back(*value != 0);
  }
  return flags;
}

Result<std::string> GgufFile::String(const std::string& key) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id, Find(key));
  if (gguf_get_kv_type(context_, id) != GGUF_TYPE_STRING) {
    return WrongType(key, id, "str");
  }
  return std::string(gguf_get_val_str(context_, id));
}

Result<int64_t> GgufFile::FindArray(const std::string& key, int element_type,
                                    std::string_view expected) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id, Find(key));
  if (gguf_get_kv_type(context_, id) != GGUF_TYPE_ARRAY ||
      gguf_get_arr_type(context_, id) != element_type) {
    return WrongType(key, id, expected);
  }
  return id;
}

Result<std::vector<const char*>> GgufFile::Strings(
    const std::string& key) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id,
                       FindArray(key, GGUF_TYPE_STRING, "array of str"));
  std::vector<const char*> strings(gguf_get_arr_n(context_, id));
  for (size_t i = 0; i < strings.size(); ++i) {
    strings[i] = gguf_get_arr_str(context_, id, i);
  }
  return strings;
}

Result<std::span<const float>> GgufFile::Floats(const std::string& key) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id,
                       FindArray(key, GGUF_TYPE_FLOAT32, "array of f32"));
  return std::span<const float>(
      static_cast<const float*>(gguf_get_arr_data(context_, id)),
      gguf_get_arr_n(context_, id));
}

Result<std::span<const int32_t>> GgufFile::Ints(const std::string& key) const {
  PKV_ASSIGN_OR_RETURN(const int64_t id,
                       FindArray(key, GGUF_TYPE_INT32, "array of i32"));
  return std::span<const int32_t>(
      static_cast<const int32_t*>(gguf_get_arr_data(context_, id)),
      gguf_get_arr_n(context_, id));
}

const GgufTensor* GgufFile::FindTensor(const std::string& name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Status GgufFile::CheckTensorData() const {
  for (const GgufTensor& tensor : tensors_) {
    if (tensor.offset > file_bytes() ||
        tensor.bytes > file_bytes() - tensor.offset) {
      return Error(fmt::format(
          "is truncated: tensor {} ends at byte {}, the file has {}",
          tensor.name, tensor.offset + tensor.bytes, file_bytes()));
    }
  }
  return {};
}

const std::byte* GgufFile::Data(const GgufTensor& tensor) const {
  DCHECK(mapping_ != nullptr);
  return mapping_->bytes().data() + tensor.offset;
}

}  // namespace pyramidkv
