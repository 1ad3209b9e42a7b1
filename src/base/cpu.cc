#include "base/cpu.h"

#include <cpuid.h>

#include <atomic>

#include "base/check.h"

namespace pyramidkv {
namespace {

// Compilers do not agree on a name for it.
bool HasF16cBit() {
  unsigned a, b, c = 0, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

CpuFeatures AskCpu() {
  CpuFeatures cpu;
  cpu.f16c = __builtin_cpu_supports("avx") && HasF16cBit();
  cpu.avx2 = cpu.f16c && __builtin_cpu_supports("avx2") &&
             __builtin_cpu_supports("fma");
  cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
  cpu.avx512_vnni = cpu.avx512 && __builtin_cpu_supports("avx512vnni");
  cpu.avx512_bf16 = cpu.avx512 && __builtin_cpu_supports("avx512bf16");
  return cpu;
}

const CpuFeatures& ThisCpu() {
  static const CpuFeatures cpu = AskCpu();
  return cpu;
}

// The innermost ScopedCpu's; null: none.
std::atomic<const CpuFeatures*> scoped = nullptr;

}  // namespace

bool Covers(const CpuFeatures& has, const CpuFeatures& needs) {
  const auto covers = [&](bool CpuFeatures::*feature) {
    return has.*feature || !(needs.*feature);
  };
  return covers(&CpuFeatures::f16c) && covers(&CpuFeatures::avx2) &&
         covers(&CpuFeatures::avx512) && covers(&CpuFeatures::avx512_vnni) &&
         covers(&CpuFeatures::avx512_bf16);
}

const CpuFeatures& Cpu() {
  const CpuFeatures* const lesser = scoped.load(std::memory_order_acquire);
  return lesser != nullptr ? *lesser : ThisCpu();
}

ScopedCpu::ScopedCpu(const CpuFeatures& features)
    : features_(features), before_(scoped.load(std::memory_order_acquire)) {
  DCHECK(Covers(ThisCpu(), features));
  scoped.store(&features_, std::memory_order_release);
}

ScopedCpu::~ScopedCpu() { scoped.store(before_, std::memory_order_release); }

}  // namespace pyramidkv
