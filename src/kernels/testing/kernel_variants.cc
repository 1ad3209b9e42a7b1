// Prints what a run of the tests on this CPU tries, a line for each kernel
// with several forms:
//   KERNEL: tried FORM, FORM; not tried: FORM, FORM
// and as the last line how many could not be tried. Exit code 0.

#include <cstdio>
#include <string>

#include "hwy/targets.h"
#include "kernels/testing/variants.h"

namespace {

std::string Joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) {
    all += (all.empty() ? "" : ", ") + word;
  }
  return all.empty() ? "none" : all;
}

}  // namespace

int main() {
  size_t missing = 0;
  for (const auto& kernel :
       pyramidkv::ListVariants(pyramidkv::Cpu(), hwy::SupportedTargets())) {
    std::printf("%s: tried %s; not tried: %s\n", kernel.kernel.c_str(),
                Joined(kernel.tried).c_str(), Joined(kernel.not_tried).c_str());
    missing += kernel.not_tried.size();
  }
  std::printf("forms this CPU cannot try: %zu\n", missing);
  return 0;
}
