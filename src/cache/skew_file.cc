// The file of a SkewTable. Little-endian:
//   magic u8[8], version, layers, kv_heads, head_dim, bytes of the model's
//   name, zero: u32; the name; f32 [layers, kv_heads, head_dim, head_dim];
//   XXH3 of all before: u64

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>

#include "cache/skew.h"
#include "fmt/format.h"

namespace pyramidkv {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the file is copied as it lies in memory");

constexpr char kMagic[] = "PKVSKEW\x1a";
constexpr size_t kMagicBytes = sizeof(kMagic) - 1;
constexpr uint32_t kVersion = 1;
constexpr int kMostTemporaries = 100;
constexpr int64_t kMostBytes = int64_t{1} << 32;  // far above any model's

struct Header {
  char magic[kMagicBytes];
  uint32_t version, layers, kv_heads, head_dim, name_bytes, zero;
};
static_assert(sizeof(Header) == 32);

size_t ValuesOf(const SkewTable& t) {
  return size_t(t.layers) * t.kv_heads * t.head_dim * t.head_dim;
}

Status CannotWrite(const std::string& path, int error) {
  return Status::Runtime(
      fmt::format("cannot write {}: {}", path, strerror(error)));
}

// Closes on every way out; removes what was not committed.
class Temporary {
 public:
  explicit Temporary(const std::string& path) {
    for (int n = 0; n < kMostTemporaries && fd_ < 0; ++n) {
      name_ = fmt::format("{}.tmp-{}-{}", path, getpid(), n);
      fd_ = open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (fd_ < 0 && errno != EEXIST) break;
    }
  }
  ~Temporary() {
    if (fd_ < 0) return;
    close(fd_);
    if (!committed_) unlink(name_.c_str());
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

  bool open_failed() const { return fd_ < 0; }
  // These leave errno.
  bool Write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n == 0) errno = ENOSPC;
      if (n <= 0) return false;
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return true;
  }
  bool Commit(const std::string& path) {
    committed_ = fsync(fd_) == 0 && rename(name_.c_str(), path.c_str()) == 0;
    return committed_;
  }

 private:
  std::string name_;
  int fd_ = -1;
  bool committed_ = false;
};

Result<std::vector<std::byte>> ReadWhole(const std::string& path) {
  const auto failed = [&] {
    return Status::Model(
        fmt::format("cannot read {}: {}", path, strerror(errno)));
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed();
  struct stat info = {};
  std::vector<std::byte> bytes;
  Status status;
  if (fstat(fd, &info) != 0) {
    status = failed();
  } else if (!S_ISREG(info.st_mode) || info.st_size > kMostBytes) {
    status = Status::Model(fmt::format("{}: not a skew file", path));
  } else {
    bytes.resize(info.st_size);
    for (size_t at = 0; status.ok() && at < bytes.size();) {
      const ssize_t n = read(fd, bytes.data() + at, bytes.size() - at);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) status = failed();
      if (n == 0) bytes.resize(at);  // it shrank meanwhile
      at += n > 0 ? n : 0;
    }
  }
  close(fd);
  if (!status.ok()) return status;
  return bytes;
}

}  // namespace

Status SaveSkew(const std::string& path, const std::string& model,
                const SkewTable& table) {
  Header header = {};
  std::memcpy(header.magic, kMagic, kMagicBytes);
  header.version = kVersion;
  header.layers = table.layers;
  header.kv_heads = table.kv_heads;
  header.head_dim = table.head_dim;
  header.name_bytes = static_cast<uint32_t>(model.size());
  std::vector<std::byte> bytes;
  const auto add = [&](std::span<const std::byte> part) {
    bytes.insert(bytes.end(), part.begin(), part.end());
  };
  add(std::as_bytes(std::span(&header, 1)));
  add(std::as_bytes(std::span(model)));
  add(std::as_bytes(std::span(table.skew)));
  const uint64_t checksum = XXH3_64bits(bytes.data(), bytes.size());
  add(std::as_bytes(std::span(&checksum, 1)));
  // Where the file really is: renaming over a link would replace the link.
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  const std::string to = error ? path : real.string();
  Temporary temporary(to);
  if (temporary.open_failed() || !temporary.Write(bytes) ||
      !temporary.Commit(to)) {
    return CannotWrite(path, errno);
  }
  return {};
}

Result<SkewTable> LoadSkew(const std::string& path, const std::string& model,
                           const SkewTable& expected) {
  PKV_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, ReadWhole(path));
  const auto wrong = [&](const std::string& what) {
    return Status::Model(fmt::format("{}: {}", path, what));
  };
  Header h;
  if (bytes.size() < sizeof(h) + sizeof(uint64_t) ||
      std::memcmp(bytes.data(), kMagic, kMagicBytes) != 0) {
    return wrong("not a skew file");
  }
  std::memcpy(&h, bytes.data(), sizeof(h));
  if (h.version != kVersion) {
    return wrong(fmt::format("version {}, not {}", h.version, kVersion));
  }
  const size_t end = bytes.size() - sizeof(uint64_t);
  uint64_t checksum;
  std::memcpy(&checksum, bytes.data() + end, sizeof(checksum));
  if (XXH3_64bits(bytes.data(), end) != checksum ||
      h.name_bytes > end - sizeof(h)) {
    return wrong("damaged (its checksum does not fit)");
  }
  const std::string name(
      reinterpret_cast<const char*>(bytes.data() + sizeof(h)), h.name_bytes);
  if (name != model) {
    return wrong(fmt::format("made for model {}, not {}", name, model));
  }
  SkewTable table = {static_cast<int>(h.layers),
                     static_cast<int>(h.kv_heads),
                     static_cast<int>(h.head_dim),
                     {}};
  const size_t values = ValuesOf(expected);
  if (table.layers != expected.layers || table.kv_heads != expected.kv_heads ||
      table.head_dim != expected.head_dim ||
      end - sizeof(h) - h.name_bytes != values * sizeof(float)) {
    return wrong(fmt::format(
        "of {} layers, {} KV heads and head_dim {}, not {}, {} and {}",
        h.layers, h.kv_heads, h.head_dim, expected.layers, expected.kv_heads,
        expected.head_dim));
  }
  table.skew.resize(values);
  std::memcpy(table.skew.data(), bytes.data() + sizeof(h) + h.name_bytes,
              values * sizeof(float));
  return table;
}

}  // namespace pyramidkv
