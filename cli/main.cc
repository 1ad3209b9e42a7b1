#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/signals.h"

int main(int argc, char** argv) {
  namespace cli = pyramidkv::cli;
  cli::PrepareStandardStreams();
  cli::InstallSignalHandlers();
  std::vector<std::string> args(argv, argv + argc);
  if (!args.empty()) args.erase(args.begin());  // the program's name
  const pyramidkv::Status status = cli::Dispatch(std::move(args));
  if (!status.ok()) cli::LogLine(status.message());
  return cli::ExitCode(status);
}
