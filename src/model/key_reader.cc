#include "model/key_reader.h"

#include <fmt/format.h>

#include <limits>

namespace pyramidkv {

std::string KeyReader::Key(std::string_view name) const {
  return fmt::format("{}.{}", architecture_, name);
}

Result<int64_t> KeyReader::Int(std::string_view name, int64_t min,
                               int64_t max) const {
  return file_.Int(Key(name), min, max);
}

Result<int64_t> KeyReader::IntOr(std::string_view name, int64_t otherwise,
                                 int64_t min, int64_t max) const {
  if (!Has(name)) return otherwise;
  return Int(name, min, max);
}

Result<double> KeyReader::Float(std::string_view name, double min,
                                double max) const {
  const std::string key = Key(name);
  PKV_ASSIGN_OR_RETURN(const double value, file_.Float(key));
  if (value < min || value > max) {
    return file_.Error(
        fmt::format("key {} is {}, expected {} to {}", key, value, min, max));
  }
  return value;
}

Result<double> KeyReader::FloatOr(std::string_view name, double otherwise,
                                  double min, double max) const {
  if (!Has(name)) return otherwise;
  return Float(name, min, max);
}

Status KeyReader::RefuseOtherThan(std::string_view name, double neutral) const {
  if (!Has(name)) return {};
  PKV_ASSIGN_OR_RETURN(const double value, file_.Float(Key(name)));
  if (value == neutral || value == 0) return {};
  return file_.Error(
      fmt::format("key {} is {}; this is not supported", Key(name), value));
}

Status KeyReader::RefuseOtherSize(std::string_view name,
                                  int64_t expected) const {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  PKV_ASSIGN_OR_RETURN(const int64_t size, IntOr(name, expected, 0, kMax));
  if (size == expected) return {};
  return file_.Error(
      fmt::format("key {} is {}, other layers have {}; layers that differ are "
                  "not supported",
                  Key(name), size, expected));
}

}  // namespace pyramidkv
