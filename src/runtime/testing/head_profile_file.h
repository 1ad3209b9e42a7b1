// A profile of heads for the presets that take one, as a file.

#ifndef PYRAMIDKV_RUNTIME_TESTING_HEAD_PROFILE_FILE_H_
#define PYRAMIDKV_RUNTIME_TESTING_HEAD_PROFILE_FILE_H_

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace pyramidkv {

// The model has so many layers and two KV heads. All callers of a process get
// the same file, which stays.
inline std::string HeadProfileFile(int layers) {
  const std::string path =
      (std::filesystem::temp_directory_path() /
       fmt::format("pyramidkv_heads_{}_{}.json", layers, getpid()))
          .string();
  static constexpr const char* kGates[] = {"[0.9,0.1]", "[0.2,0.8]",
                                           "[0.5,0.6]"};
  std::string heads;
  for (int l = 0; l < layers; ++l) {
    heads += fmt::format("{}{}", l > 0 ? "," : "", kGates[l % 3]);
  }
  std::ofstream(path) << fmt::format(
      R"({{"version":1,"model":"tiny","heads":[{}]}})", heads);
  return path;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_TESTING_HEAD_PROFILE_FILE_H_
