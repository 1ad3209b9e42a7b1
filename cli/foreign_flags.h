// The flags of llama.cpp that have no flag of their own here.

#ifndef PYRAMIDKV_CLI_FOREIGN_FLAGS_H_
#define PYRAMIDKV_CLI_FOREIGN_FLAGS_H_

#include <string_view>
#include <vector>

namespace pyramidkv::cli {

enum class ForeignAction {
  kRename,        // is `text`
  kRenameOrDrop,  // the same; so anyway in commands that have no such flag
  kDefault,       // is `text` where that is not given
  kDrop,          // is so here anyway
  kDropWord,      // the same; on, off or auto may follow
  kDropNumber,    // the same; a number follows
  kEscape,        // backslashes in texts are read as C does
  kRefuse,        // `text` says why
  kZeroAlone,     // a number follows; 0 is so here, else `text` says why not
};

struct ForeignFlag {
  const char* names;    // "-x|--long"
  const char* command;  // the only one that the row is for; "": every one
  ForeignAction action;
  const char* text = "";
};

const std::vector<ForeignFlag>& ForeignFlags();

// The first row for `name` in `command`; null: there is none.
const ForeignFlag* FindForeignFlag(std::string_view name,
                                   std::string_view command);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_FOREIGN_FLAGS_H_
