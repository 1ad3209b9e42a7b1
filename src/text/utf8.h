// UTF-8: where text stops being valid, and what a stream must hold back.
// Valid is what Unicode's table 3-7 allows: no overlong forms, no surrogates,
// nothing above U+10FFFF.

#ifndef PYRAMIDKV_TEXT_UTF8_H_
#define PYRAMIDKV_TEXT_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace pyramidkv {

// Offset of the first byte that does not begin or continue a whole character,
// or npos. A character cut off at the end counts as invalid.
size_t FirstInvalidUtf8(std::string_view text);

// Length in bytes (0 to 3) of the end of `text` that more bytes could still
// make a character.
size_t IncompleteSuffix(std::string_view text);

// `text` with U+FFFD in place of each maximal part that is not UTF-8.
std::string ReplaceInvalidUtf8(std::string_view text);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_UTF8_H_
