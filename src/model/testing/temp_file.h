// A path in the temporary directory that no other test uses; what lies there
// is removed at the end.

#ifndef PYRAMIDKV_MODEL_TESTING_TEMP_FILE_H_
#define PYRAMIDKV_MODEL_TESTING_TEMP_FILE_H_

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

namespace pyramidkv {

class TempFile {
 public:
  explicit TempFile(std::string_view suffix = ".gguf") {
    static std::atomic<int> counter{0};
    const std::string name = "pyramidkv_" + std::to_string(getpid()) + "_" +
                             std::to_string(counter++) + std::string(suffix);
    path_ = std::filesystem::temp_directory_path() / name;
  }
  ~TempFile() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  std::string path() const { return path_.string(); }

  void Write(std::string_view bytes) const {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  std::string Read() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

 private:
  std::filesystem::path path_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_TESTING_TEMP_FILE_H_
