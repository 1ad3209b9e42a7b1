// Texts of users: what a document is, before a model reads it as if it were
// plain text.

#ifndef PYRAMIDKV_CLI_DOCUMENT_H_
#define PYRAMIDKV_CLI_DOCUMENT_H_

#include <string>
#include <string_view>

#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// The text of `path`, or of standard input for "-": without the byte order
// mark and with LF for CRLF, or, with `verbatim`, byte for byte. One newline
// at the end is dropped in any case.
// Errors: kUsage for an empty name, a file that cannot be opened, a URL, and,
// without `verbatim`, for bytes that are no UTF-8 text: the message says what
// the file is and names a command that makes text of it. kRuntime where a read
// fails.
Result<std::string> ReadDocument(const std::string& path, bool verbatim);

// The same for bytes that were read from `name`.
Result<std::string> DocumentText(std::string bytes, std::string_view name);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_DOCUMENT_H_
