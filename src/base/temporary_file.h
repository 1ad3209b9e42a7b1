// Files beside the one that they are to become, or that lose their name at
// once: "PATH.tmp-PID-N". Whoever dies leaves one behind at most, and the next
// who uses PATH removes it.
//
// Callable from any thread.

#ifndef PYRAMIDKV_BASE_TEMPORARY_FILE_H_
#define PYRAMIDKV_BASE_TEMPORARY_FILE_H_

#include <sys/types.h>

#include <string>

namespace pyramidkv {

// Opens a new one to read and write, locked (flock) for as long as it is open,
// and says its name. Returns its descriptor, or -1 with errno set.
int OpenTemporary(const std::string& path, mode_t mode, std::string* name);

// Removes those of processes that are gone.
void RemoveStaleTemporaries(const std::string& path);

// The directory to be synced or listed for a file at `path`.
std::string DirectoryOf(const std::string& path);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_TEMPORARY_FILE_H_
