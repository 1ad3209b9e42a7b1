// The commands of the program. Each file *_command.cc adds one subcommand to
// the option tree and says what to do when it was chosen.

#ifndef PYRAMIDKV_CLI_COMMAND_H_
#define PYRAMIDKV_CLI_COMMAND_H_

#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

struct Command {
  CLI::App* app = nullptr;
  std::function<Status()> run;  // REQUIRES: app was parsed
};

Command AddRunCommand(CLI::App& root);
Command AddChatCommand(CLI::App& root);
Command AddPlanCommand(CLI::App& root);
Command AddBenchCommand(CLI::App& root);
Command AddEvalCommand(CLI::App& root);
Command AddSessionCommand(CLI::App& root);
Command AddModelsCommand(CLI::App& root);
Command AddDoctorCommand(CLI::App& root);
Command AddVersionCommand(CLI::App& root);
// REQUIRES: it comes after the commands that it helps with.
Command AddHelpCommand(CLI::App& root);
// Hidden: one measurement of `bench`, in a process of its own.
Command AddBenchRowCommand(CLI::App& root);

// Parses `args` (without the program's name) and runs what they ask for.
Status Dispatch(std::vector<std::string> args);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_COMMAND_H_
