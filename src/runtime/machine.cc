#include "pyramidkv/machine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <new>
#include <numeric>
#include <sstream>

#include "base/cpu.h"
#include "base/huge_buffer.h"
#include "base/processors.h"
#include "base/thread_pool.h"
#include "hwy/highway.h"
#include "oneapi/dnnl/dnnl.h"
#include "text/llama_version.h"
#include "xxhash.h"

namespace pyramidkv {
namespace {

constexpr size_t kReadBytes = size_t{256} << 20;  // beyond all caches
constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr int kReads = 3;

std::string ProcValue(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == line.npos || !line.starts_with(key)) continue;
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == line.npos ? "" : line.substr(value);
  }
  return "";
}

int64_t ProcBytes(const char* path, std::string_view key) {
  int64_t kilobytes = 0;
  std::istringstream(ProcValue(path, key)) >> kilobytes;
  return kilobytes * 1024;
}

std::string PathOf(const CpuFeatures& cpu) {
  if (cpu.avx512_vnni && cpu.avx512_bf16) return "AVX-512 with VNNI and BF16";
  if (cpu.avx512_vnni) return "AVX-512 with VNNI";
  if (cpu.avx2) return "AVX2";
  return "no AVX2: ggml and oneDNN";
}

uint64_t SumOfPiece(const std::byte* piece) {
  uint64_t sum = 0;
  for (size_t at = 0; at < kPieceBytes; at += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, piece + at, sizeof(word));
    sum += word;
  }
  return sum;
}

std::string OneDnnVersion() {
  const dnnl_version_t* v = dnnl_version();
  return fmt::format("{}.{}.{}", v->major, v->minor, v->patch);
}

}  // namespace

MachineInfo DescribeMachine() {
  const CpuFeatures& cpu = Cpu();
  MachineInfo info;
  info.cpu = ProcValue("/proc/cpuinfo", "model name");
  info.cpu_features = {{"F16C", cpu.f16c},
                       {"AVX2", cpu.avx2},
                       {"AVX-512", cpu.avx512},
                       {"AVX-512 VNNI", cpu.avx512_vnni},
                       {"AVX-512 BF16", cpu.avx512_bf16}};
  info.cpu_path = PathOf(cpu);
  info.fast_path = cpu.avx2;
  info.processors = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  info.usable_processors = static_cast<int>(UsableProcessors().size());
  info.quota_processors = QuotaProcessors();
  info.threads = UsableThreads();
  info.memory_bytes = ProcBytes("/proc/meminfo", "MemTotal");
  info.available_bytes = ProcBytes("/proc/meminfo", "MemAvailable");
  info.libraries = {
      {"llama.cpp", LlamaVersion()},
      {"ggml", GgmlVersion()},
      {"oneDNN", OneDnnVersion()},
      {"Highway", fmt::format("{}.{}.{}", HWY_MAJOR, HWY_MINOR, HWY_PATCH)},
      {"xxHash", fmt::format("{}.{}.{}", XXH_VERSION_MAJOR, XXH_VERSION_MINOR,
                             XXH_VERSION_RELEASE)}};
  return info;
}

int64_t PeakRssBytes() { return ProcBytes("/proc/self/status", "VmHWM"); }

double MeasureReadSpeed(int threads) try {
  HugeBuffer buffer(kReadBytes);
  ThreadPool pool(threads);
  const int pieces = static_cast<int>(kReadBytes / kPieceBytes);
  std::vector<uint64_t> sums(pieces);
  pool.ParallelRanges(pieces, [&](int i, int) {
    std::memset(buffer.data() + i * kPieceBytes, i & 0xff, kPieceBytes);
  });
  double best = 0;
  for (int read = 0; read < kReads; ++read) {
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelRanges(pieces, [&](int i, int) {
      sums[i] = SumOfPiece(buffer.data() + i * kPieceBytes);
    });
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    best = std::max(best, kReadBytes / seconds.count());
  }
  // The sum is needed, so the reads are not optimised away.
  const uint64_t sum = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
  return sum == 0 ? 0 : best;
} catch (const std::bad_alloc&) {
  return 0;
}

}  // namespace pyramidkv
