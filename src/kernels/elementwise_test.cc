#include "kernels/elementwise.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

const size_t kLengths[] = {1, 2, 3, 7, 15, 16, 17, 31, 33, 64, 100, 576, 1537};

TEST(Elementwise, DotF32) {
  ForAllTargets([] {
    for (size_t n : kLengths) {
      const auto a = RandomFloats(n, 1), b = RandomFloats(n, 2);
      double want = 0;
      for (size_t i = 0; i < n; ++i) want += double{a[i]} * b[i];
      EXPECT_NEAR(DotF32(a.data(), b.data(), n), want, 1e-6 * n + 1e-6);
    }
  });
}

TEST(Elementwise, RmsNorm) {
  ForAllTargets([] {
    for (size_t n : kLengths) {
      const auto x = RandomFloats(n, 3, 5.0f), w = RandomFloats(n, 4);
      std::vector<float> got(n), want(n);
      RmsNorm(x.data(), w.data(), n, 1e-5f, got.data());
      reference::RmsNorm(x.data(), w.data(), static_cast<int>(n), 1e-5f,
                         want.data());
      ExpectNear(got, want, 1e-5f);
    }
  });
}

TEST(Elementwise, SiluMul) {
  ForAllTargets([] {
    for (size_t n : kLengths) {
      auto got = RandomFloats(n, 5, 20.0f);
      const auto up = RandomFloats(n, 6);
      auto want = got;
      SiluMul(got.data(), up.data(), n);
      reference::SiluMul(want.data(), up.data(), static_cast<int>(n));
      ExpectNear(got, want, 2e-5f);
    }
  });
}

TEST(Elementwise, SiluOfExtremesIsFinite) {
  ForAllTargets([] {
    std::vector<float> gate = {-1e30f, -200.0f, 0.0f, 200.0f, 1e30f};
    const std::vector<float> up(gate.size(), 1.0f);
    SiluMul(gate.data(), up.data(), gate.size());
    ExpectNear({gate[0], gate[1], gate[2], gate[3]}, {0, 0, 0, 200}, 1e-6f);
    EXPECT_EQ(gate[4], 1e30f);
  });
}

TEST(Elementwise, GeluMul) {
  ForAllTargets([] {
    for (size_t n : kLengths) {
      auto got = RandomFloats(n, 9, 4.0f);
      const auto up = RandomFloats(n, 10);
      auto want = got;
      GeluMul(got.data(), up.data(), n);
      reference::GeluMul(want.data(), up.data(), static_cast<int>(n));
      ExpectNear(got, want, 1e-5f);
    }
  });
}

TEST(Elementwise, GeluOfExtremesIsFinite) {
  ForAllTargets([] {
    std::vector<float> gate = {-1e30f, -50.0f, 0.0f, 50.0f, 1e30f};
    const std::vector<float> up(gate.size(), 1.0f);
    GeluMul(gate.data(), up.data(), gate.size());
    ExpectNear({gate[0], gate[1], gate[2], gate[3]}, {0, 0, 0, 50}, 1e-6f);
    EXPECT_EQ(gate[4], 1e30f);
  });
}

TEST(Elementwise, SoftCap) {
  ForAllTargets([] {
    for (float cap : {0.5f, 30.0f}) {
      for (size_t n : kLengths) {
        auto got = RandomFloats(n, 11, 20.0f);
        auto want = got;
        SoftCap(cap, n, got.data());
        reference::SoftCap(cap, static_cast<int>(n), want.data());
        ExpectNear(got, want, 1e-6f * cap);
      }
    }
  });
}

TEST(Elementwise, SoftCapOfExtremesIsTheCap) {
  ForAllTargets([] {
    const float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> x = {-infinity, -1e30f, 0.0f, 1e30f, infinity};
    SoftCap(30.0f, x.size(), x.data());
    EXPECT_EQ(x, (std::vector<float>{-30, -30, 0, 30, 30}));
  });
}

TEST(Elementwise, AddTo) {
  ForAllTargets([] {
    for (size_t n : kLengths) {
      const auto x = RandomFloats(n, 7);
      auto y = RandomFloats(n, 8);
      const auto before = y;
      AddTo(x.data(), n, y.data());
      for (size_t i = 0; i < n; ++i) EXPECT_EQ(y[i], x[i] + before[i]);
    }
  });
}

TEST(Elementwise, ToBf16RoundsToNearestEven) {
  ForAllTargets([] {
    // 1 + 2^-8 lies half-way between 1 and 1 + 2^-7: to the even one, 1.
    const std::vector<float> x = {
        1.0f, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, -2.5f, 0.0f, -0.0f, 3.14159f};
    const std::vector<uint16_t> want = {0x3f80, 0x3f80, 0x3f82, 0xc020,
                                        0x0000, 0x8000, 0x4049};
    for (size_t n = 1; n <= x.size(); ++n) {
      std::vector<uint16_t> got(n);
      ToBf16(x.data(), n, got.data());
      EXPECT_EQ(got, std::vector<uint16_t>(want.begin(), want.begin() + n));
    }
  });
}

}  // namespace
}  // namespace pyramidkv
