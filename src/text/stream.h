// TextStream: turns the token pieces of an answer into text that can be shown
// at once. Bytes not certain yet are held back: the first ones of a
// character, and whatever may still become a stop string.
//
//   TextStream stream({"\nUser:"});
//   while (!stream.stopped()) Show(stream.Push(tokenizer.Piece(token, false)));
//   Show(stream.Finish());
//
// The text, and where it stops, depends on the bytes alone, never on
// how they were cut into pieces: a stop string counts from the byte that
// completes it, so the one that is complete first ends the text.

#ifndef PYRAMIDKV_TEXT_STREAM_H_
#define PYRAMIDKV_TEXT_STREAM_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pyramidkv {

class TextStream {
 public:
  // Empty stop strings are ignored.
  explicit TextStream(std::vector<std::string> stop);

  // Adds the bytes of one token and returns the text that is certain now
  // (always valid UTF-8; may be empty). Nothing after a stop string.
  std::string Push(std::string_view piece);

  // Returns what was held back; a character that never became whole is
  // U+FFFD. Empty after a stop string.
  std::string Finish();

  // A stop string was found; it and what follows are not in the text.
  bool stopped() const { return stopped_; }
  const std::string& text() const { return text_; }  // all returned so far

 private:
  // Moves the first `bytes` of pending_ into text_ and returns them.
  std::string Emit(size_t bytes);
  size_t HeldForStop() const;

  std::vector<std::string> stop_;
  std::string pending_;  // bytes received and not returned
  std::string text_;
  bool stopped_ = false;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_STREAM_H_
