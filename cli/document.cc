#include "cli/document.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "cli/inputs.h"
#include "cli/json_output.h"

namespace pyramidkv::cli {
namespace {

constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";

// How a file that is no plain text shows, and how it becomes one. {} is its
// name.
struct Kind {
  std::string_view start;
  const char* is;
  const char* command;
};

constexpr Kind kKinds[] = {
    {"%PDF-", "a PDF", "pdftotext {} - | pyramidkv run -f - -p QUESTION"},
    {"\xD0\xCF\x11\xE0", "an old office document",
     "soffice --headless --convert-to txt {}"},
    {"GGUF", "a model in GGUF", "pyramidkv run -m {}"},
    {"version https://git-lfs", "a pointer to a file in Git LFS",
     "git lfs pull --include {}"},
    {"\x1F\x8B", "compressed by gzip",
     "zcat {} | pyramidkv run -f - -p QUESTION"},
    {"\xFD"
     "7zXZ",
     "compressed by xz", "xzcat {} | pyramidkv run -f - -p QUESTION"},
    {"BZh", "compressed by bzip2", "bzcat {} | pyramidkv run -f - -p QUESTION"},
    {"\x28\xB5\x2F\xFD", "compressed by zstd",
     "zstdcat {} | pyramidkv run -f - -p QUESTION"},
    {"\x89PNG", "a picture", "tesseract {} -"},
    {"\xFF\xD8\xFF", "a picture", "tesseract {} -"},
    {"\x7F"
     "ELF",
     "a program", nullptr},
};
constexpr Kind kDocx = {"PK\x03\x04", "an office document",
                        "pandoc -t plain {}"};
constexpr Kind kZip = {"PK\x03\x04", "a ZIP archive", "unzip {}"};
constexpr Kind kSafetensors = {"", "a model's weights in safetensors",
                               "convert_hf_to_gguf.py DIRECTORY"};
constexpr Kind kHtml = {"", "HTML (--verbatim takes it as it is)",
                        "html2text {} | pyramidkv run -f - -p QUESTION"};
constexpr Kind kUtf16 = {"", "text in UTF-16", "iconv -f UTF-16 -t UTF-8 {}"};
constexpr Kind kLatin1 = {"", "text, but not in UTF-8",
                          "iconv -f WINDOWS-1252 -t UTF-8 {}"};
constexpr Kind kBinary = {"", "no text: it holds bytes that are 0", nullptr};

bool Begins(std::string_view bytes, std::string_view word) {
  return bytes.size() >= word.size() &&
         std::equal(word.begin(), word.end(), bytes.begin(),
                    [](char a, char b) {
                      return a == std::tolower(static_cast<unsigned char>(b));
                    });
}

bool IsHtml(std::string_view bytes) {
  bytes.remove_prefix(
      std::min(bytes.find_first_not_of(" \t\r\n"), bytes.size()));
  return Begins(bytes, "<!doctype html") || Begins(bytes, "<html");
}

// A header's length in eight bytes, then the header in JSON.
bool IsSafetensors(std::string_view bytes) {
  return bytes.size() > 10 &&
         bytes.substr(4, 4) == std::string_view("\0\0\0\0", 4) &&
         bytes.substr(8, 2) == "{\"";
}

// Every other of the first bytes is 0, as in Western text.
bool IsUtf16(std::string_view bytes) {
  if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) {
    return true;
  }
  const size_t pairs = std::min<size_t>(bytes.size() / 2, 64);
  std::array<size_t, 2> zeros = {};
  for (size_t i = 0; i < 2 * pairs; ++i) zeros[i % 2] += bytes[i] == '\0';
  return pairs > 1 && std::max(zeros[0], zeros[1]) == pairs &&
         std::min(zeros[0], zeros[1]) == 0;
}

bool IsOfficeZip(std::string_view bytes) {
  const std::string_view head = bytes.substr(0, 4096);
  return head.find("word/") != head.npos ||
         head.find("[Content_") != head.npos ||
         head.find("mimetypeapplication/vnd.oasis") != head.npos ||
         head.find("mimetypeapplication/epub") != head.npos;
}

bool IsUtf8(std::string_view bytes) {
  try {
    Json(bytes).dump();
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

std::optional<Kind> NoText(std::string_view bytes) {
  for (const Kind& kind : kKinds) {
    if (bytes.starts_with(kind.start)) return kind;
  }
  if (bytes.starts_with(kZip.start)) return IsOfficeZip(bytes) ? kDocx : kZip;
  if (IsSafetensors(bytes)) return kSafetensors;
  if (IsUtf16(bytes)) return kUtf16;
  if (IsHtml(bytes)) return kHtml;
  if (bytes.find('\0') != bytes.npos) return kBinary;
  if (!IsUtf8(bytes)) return kLatin1;
  return std::nullopt;
}

void UseLineFeeds(std::string* text) {
  size_t out = 0;
  for (size_t i = 0; i < text->size(); ++i) {
    if ((*text)[i] == '\r' && i + 1 < text->size() && (*text)[i + 1] == '\n') {
      continue;
    }
    (*text)[out++] = (*text)[i];
  }
  text->resize(out);
}

}  // namespace

Result<std::string> DocumentText(std::string bytes, std::string_view name) {
  if (bytes.starts_with(kUtf8Mark)) bytes.erase(0, kUtf8Mark.size());
  if (const std::optional<Kind> kind = NoText(bytes)) {
    std::string message = fmt::format("{} is {}", name, kind->is);
    if (kind->command != nullptr) {
      message += ": " + fmt::format(fmt::runtime(kind->command), name);
    }
    return Status::Usage(std::move(message));
  }
  UseLineFeeds(&bytes);
  return DropTrailingNewline(std::move(bytes));
}

Result<std::string> ReadDocument(const std::string& path, bool verbatim) {
  if (path.empty()) {
    return Status::Usage("the name of the file to read is empty");
  }
  if (path.starts_with("http://") || path.starts_with("https://")) {
    return Status::Usage(
        fmt::format("{} is an address, and nothing is fetched from the "
                    "network: curl -sL {} | html2text | pyramidkv run -f - -p "
                    "QUESTION",
                    path, path));
  }
  PKV_ASSIGN_OR_RETURN(std::string bytes,
                       path == "-" ? ReadStdin() : ReadFile(path));
  if (verbatim) return DropTrailingNewline(std::move(bytes));
  return DocumentText(std::move(bytes), path == "-" ? "standard input" : path);
}

}  // namespace pyramidkv::cli
