#include "model/gguf_check.h"

#include <fmt/format.h>
#include <ggml.h>
#include <gguf.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <unordered_set>

namespace pyramidkv {
namespace {

// Far above every real model; low enough that ggml's quadratic search for
// duplicates stays short.
constexpr uint64_t kMaxKeys = 8192;
constexpr uint64_t kMaxTensors = 16384;
constexpr uint64_t kMaxNameBytes = 1024;
constexpr uint64_t kMaxStringBytes = 1 << 26;
constexpr uint64_t kMaxArrayElements = 1 << 26;
// Weights are read in place: f32 values must be aligned.
constexpr uint64_t kMinAlignment = 8;

// Bytes of one value; 0 for strings, arrays and unknown types.
size_t ScalarBytes(uint32_t type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL:
      return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16:
      return 2;
    case GGUF_TYPE_UINT32:
    case GGUF_TYPE_INT32:
    case GGUF_TYPE_FLOAT32:
      return 4;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64:
      return 8;
    default:
      return 0;
  }
}

// Control bytes and non-ASCII as \xHH: names go into messages.
std::string Printable(std::string_view name) {
  std::string out;
  for (unsigned char c : name) {
    if (c >= 0x20 && c < 0x7f) {
      out += static_cast<char>(c);
    } else {
      out += fmt::format("\\x{:02x}", c);
    }
  }
  return out;
}

class HeaderChecker {
 public:
  HeaderChecker(const std::string& path, std::span<const std::byte> bytes)
      : path_(path), bytes_(bytes) {}

  Status Check() {
    PKV_RETURN_IF_ERROR(CheckStart());
    for (uint64_t i = 0; i < keys_; ++i) PKV_RETURN_IF_ERROR(CheckKey(i));
    names_.clear();
    for (uint64_t i = 0; i < tensors_; ++i) {
      PKV_RETURN_IF_ERROR(CheckTensor(i));
    }
    const uint64_t data_start =
        (at_ + alignment_ - 1) / alignment_ * alignment_;
    if (tensors_ > 0 && data_start > bytes_.size()) {
      return Truncated("the start of the weights");
    }
    return {};
  }

 private:
  template <typename T>
  bool Read(T* value) {
    if (bytes_.size() - at_ < sizeof(T)) return false;
    std::memcpy(value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return true;
  }

  bool Skip(uint64_t count) {
    if (bytes_.size() - at_ < count) return false;
    at_ += count;
    return true;
  }

  bool ReadString(uint64_t max_bytes, std::string_view* text) {
    uint64_t size = 0;
    if (!Read(&size) || size > max_bytes) return false;
    *text = {reinterpret_cast<const char*>(bytes_.data()) + at_,
             static_cast<size_t>(size)};
    return Skip(size);
  }

  Status Error(const std::string& what) const {
    return Status::Model(fmt::format("{}: {}", path_, what));
  }

  Status Truncated(const std::string& where) const {
    return Error(fmt::format(
        "is truncated or damaged: {} cannot be read (file of {} bytes)", where,
        bytes_.size()));
  }

  Status CheckStart() {
    uint32_t magic = 0;
    if (!Read(&magic) || std::memcmp(&magic, GGUF_MAGIC, 4) != 0) {
      return Error("is not a GGUF file (it does not start with 'GGUF')");
    }
    uint32_t version = 0;
    if (!Read(&version) || !Read(&tensors_) || !Read(&keys_)) {
      return Truncated("the header");
    }
    if (version != 2 && version != 3) {
      const bool swapped = (version & 0xffff) == 0;
      return Error(
          fmt::format("GGUF version {} is not supported{}; convert "
                      "the model to version 3, little-endian",
                      version, swapped ? " (a big-endian file?)" : ""));
    }
    if (keys_ > kMaxKeys || tensors_ > kMaxTensors) {
      return Error(fmt::format(
          "is damaged: it claims {} keys and {} tensors (at most {} and {})",
          keys_, tensors_, kMaxKeys, kMaxTensors));
    }
    return {};
  }

  Status CheckKey(uint64_t index) {
    const std::string where = fmt::format("key {} of {}", index + 1, keys_);
    std::string_view name;
    if (!ReadString(kMaxNameBytes, &name)) return Truncated(where);
    if (name.empty())
      return Error(fmt::format("is damaged: {} has no name", where));
    const std::string key = Printable(name);
    if (!names_.insert(name).second) {
      return Error(fmt::format("is damaged: key {} appears twice", key));
    }
    uint32_t type = 0;
    if (!Read(&type)) return Truncated(where);
    if (name == GGUF_KEY_GENERAL_ALIGNMENT) return CheckAlignment(type);
    return SkipValue(key, type);
  }

  Status CheckAlignment(uint32_t type) {
    uint32_t value = 0;
    if (type != GGUF_TYPE_UINT32) {
      return Error("key general.alignment must be a u32");
    }
    if (!Read(&value)) return Truncated("key general.alignment");
    if (value < kMinAlignment || !std::has_single_bit(value)) {
      return Error(
          fmt::format("key general.alignment is {}; it must be a "
                      "power of two of at least {}",
                      value, kMinAlignment));
    }
    alignment_ = value;
    return {};
  }

  Status SkipValue(const std::string& key, uint32_t type) {
    uint64_t count = 1;
    const bool is_array = type == GGUF_TYPE_ARRAY;
    if (is_array && (!Read(&type) || !Read(&count))) {
      return Truncated(fmt::format("key {}", key));
    }
    if (type != GGUF_TYPE_STRING && ScalarBytes(type) == 0) {
      return Error(
          fmt::format("is damaged: key {} has a value of unknown "
                      "type {}",
                      key, type));
    }
    bool ok = count <= kMaxArrayElements;
    if (ok && type == GGUF_TYPE_STRING) {
      std::string_view text;
      for (uint64_t i = 0; ok && i < count; ++i) {
        ok = ReadString(kMaxStringBytes, &text);
      }
    } else if (ok) {
      ok = Skip(count * ScalarBytes(type));
    }
    return ok ? Status() : Truncated(fmt::format("the value of key {}", key));
  }

  Status CheckTensor(uint64_t index) {
    const std::string where = fmt::format(
        "entry {} of {} in the table of tensors", index + 1, tensors_);
    std::string_view raw_name;
    if (!ReadString(kMaxNameBytes, &raw_name)) return Truncated(where);
    const std::string name = Printable(raw_name);
    if (raw_name.empty() || raw_name.size() >= GGML_MAX_NAME ||
        raw_name.find('\0') != raw_name.npos) {
      return Error(
          fmt::format("is damaged: {} has the name '{}'", where, name));
    }
    if (!names_.insert(raw_name).second) {
      return Error(fmt::format("is damaged: tensor {} appears twice", name));
    }
    uint64_t elements = 0;
    uint64_t row = 0;
    PKV_RETURN_IF_ERROR(CheckShape(name, &elements, &row));
    return CheckTypeAndOffset(name, elements, row);
  }

  Status CheckShape(const std::string& name, uint64_t* elements,
                    uint64_t* row) {
    uint32_t dims = 0;
    if (!Read(&dims)) return Truncated(fmt::format("tensor {}", name));
    if (dims < 1 || dims > GGML_MAX_DIMS) {
      return Error(
          fmt::format("is damaged: tensor {} has {} dimensions", name, dims));
    }
    constexpr uint64_t kMaxElements = std::numeric_limits<int64_t>::max() / 16;
    *elements = 1;
    for (uint32_t i = 0; i < dims; ++i) {
      uint64_t size = 0;
      if (!Read(&size)) return Truncated(fmt::format("tensor {}", name));
      if (size == 0 || size > kMaxElements / *elements) {
        return Error(fmt::format("is damaged: tensor {} has a dimension of {}",
                                 name, size));
      }
      *elements *= size;
      if (i == 0) *row = size;
    }
    return {};
  }

  Status CheckTypeAndOffset(const std::string& name, uint64_t elements,
                            uint64_t row) {
    uint32_t type = 0;
    uint64_t offset = 0;
    if (!Read(&type) || !Read(&offset)) {
      return Truncated(fmt::format("tensor {}", name));
    }
    if (type >= GGML_TYPE_COUNT ||
        ggml_blck_size(static_cast<ggml_type>(type)) <= 0) {
      return Error(
          fmt::format("tensor {} has the unknown type {}", name, type));
    }
    const ggml_type known = static_cast<ggml_type>(type);
    const uint64_t block = ggml_blck_size(known);
    if (row % block != 0) {
      return Error(
          fmt::format("is damaged: rows of tensor {} have {} values, "
                      "not a multiple of {}, the block of {}",
                      name, row, block, ggml_type_name(known)));
    }
    if (offset != next_offset_) {
      return Error(
          fmt::format("is damaged: tensor {} is at offset {}, "
                      "expected at {}",
                      name, offset, next_offset_));
    }
    return AdvanceOffset(name, elements / block, ggml_type_size(known));
  }

  Status AdvanceOffset(const std::string& name, uint64_t blocks,
                       uint64_t block_bytes) {
    constexpr uint64_t kMaxBytes = std::numeric_limits<int64_t>::max() / 2;
    if (blocks > kMaxBytes / block_bytes) {
      return Error(fmt::format("is damaged: tensor {} is too large", name));
    }
    const uint64_t padded =
        (blocks * block_bytes + alignment_ - 1) / alignment_ * alignment_;
    if (padded > kMaxBytes - next_offset_) {
      return Error(fmt::format("is damaged: tensor {} is too large", name));
    }
    next_offset_ += padded;
    return {};
  }

  const std::string& path_;
  std::span<const std::byte> bytes_;
  size_t at_ = 0;  // <= bytes_.size()
  uint64_t keys_ = 0;
  uint64_t tensors_ = 0;
  uint64_t alignment_ = GGUF_DEFAULT_ALIGNMENT;
  uint64_t next_offset_ = 0;  // of the next tensor, from the first
  std::unordered_set<std::string_view> names_;
};

}  // namespace

Status CheckGgufHeader(const std::string& path,
                       std::span<const std::byte> bytes) {
  return HeaderChecker(path, bytes).Check();
}

}  // namespace pyramidkv
