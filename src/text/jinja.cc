#include "text/jinja.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"
#include "jinja/value.h"
#include "json.h"
#include "text/utf8.h"

namespace pyramidkv {
namespace {

using Kind = ChildOutcome::Kind;

// A part of a rendering on its way from the child.
struct PartHeader {
  uint64_t bytes;
  uint64_t said;  // 0 or 1
};

void SetVariables(jinja::context* context, const std::string& json, bool said) {
  jinja::global_from_json(*context, common_json::parse(json), said);
}

// Templates write roles into their own control tokens: '<|' + role + '|>'.
void OwnRoles(jinja::context* context) {
  const jinja::value messages = context->get_val("messages");
  if (!jinja::is_val<jinja::value_array>(messages)) return;
  for (const jinja::value& message : messages->as_array()) {
    jinja::value none = jinja::mk_val<jinja::value_undefined>();
    const jinja::value role = message->at("role", none);
    for (jinja::string_part& part : role->val_str.parts) part.is_input = false;
  }
}

using Arguments = jinja::func_args;

// A type's filters and methods. The tables are the engine's, of which a child
// has its own.
jinja::func_builtins& Builtins(const jinja::value& of_type) {
  return const_cast<jinja::func_builtins&>(of_type->get_builtins());
}

bool Has(const jinja::value& value, const char* trait) {
  return value->stats.ops.contains(trait);
}

// Lists are not changed in place in the sandbox of transformers.
void RefuseChanges() {
  auto& lists = Builtins(jinja::mk_val<jinja::value_array>());
  for (const char* name : {"append", "pop"}) {
    lists[name] = [name](const Arguments&) -> jinja::value {
      throw jinja::raised_exception(fmt::format(
          "{} would change a list, which templates must not", name));
    };
  }
}

// map and its like give generators, which have no length and are no JSON.
void MakeGenerators() {
  auto& lists = Builtins(jinja::mk_val<jinja::value_array>());
  for (const char* name :
       {"map", "select", "reject", "selectattr", "rejectattr"}) {
    lists[name] = [filter = lists.at(name)](const Arguments& arguments) {
      jinja::value result = filter(arguments);
      result->stats.ops.insert("generator");
      return result;
    };
  }
  for (const char* name : {"tojson", "length"}) {
    lists[name] = [name, filter = lists.at(name)](const Arguments& arguments) {
      if (arguments.count() > 0 && Has(arguments.get_pos(0), "generator")) {
        throw jinja::raised_exception(
            fmt::format("{} of a generator: make a list of it first", name));
      }
      return filter(arguments);
    };
  }
}

std::vector<std::string_view> Characters(std::string_view text) {
  std::vector<std::string_view> characters;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
    characters.push_back(text.substr(at, end - at));
    at = end;
  }
  return characters;
}

// The engine's text is of bytes; Python's is of characters, which the engine
// can slice as a list.
void CountCharacters() {
  auto& strings = Builtins(jinja::mk_val<jinja::value_string>());
  const auto& lists = Builtins(jinja::mk_val<jinja::value_array>());
  strings["length"] = [](const Arguments& arguments) -> jinja::value {
    const std::string text = arguments.get_pos(0)->as_string().str();
    return jinja::mk_val<jinja::value_int>(std::ssize(Characters(text)));
  };
  strings["slice"] =
      [slice = lists.at("slice")](const Arguments& arguments) -> jinja::value {
    const jinja::string text = arguments.get_pos(0)->as_string();
    const std::string bytes = text.str();
    auto list = jinja::mk_val<jinja::value_array>();
    for (const std::string_view character : Characters(bytes)) {
      list->push_back(
          jinja::mk_val<jinja::value_string>(std::string(character)));
    }
    Arguments of_list(arguments.ctx);
    of_list.push_back(list);
    for (size_t i = 1; i < arguments.count(); ++i) {
      of_list.push_back(arguments.get_pos(i));
    }
    std::string part;
    const jinja::value sliced = slice(of_list);
    for (const jinja::value& character : sliced->as_array()) {
      part += character->as_string().str();
    }
    auto result = jinja::mk_val<jinja::value_string>(part);
    result->val_str.mark_input_based_on(text);
    return result;
  };
}

// Differences to jinja2 that show in no error.
void MendFilters() {
  auto& strings = Builtins(jinja::mk_val<jinja::value_string>());
  strings["split"] = [split = strings.at("split")](const Arguments& arguments) {
    if (arguments.count() != 1) return split(arguments);
    const jinja::string text = arguments.get_pos(0)->as_string();
    std::istringstream words(text.str());
    auto list = jinja::mk_val<jinja::value_array>();
    for (std::string word; words >> word;) {
      auto item = jinja::mk_val<jinja::value_string>(word);
      item->val_str.mark_input_based_on(text);
      list->push_back(item);
    }
    return jinja::value(list);
  };
  strings["format"] = [format =
                           strings.at("format")](const Arguments& arguments) {
    const std::string text = arguments.get_pos(0)->as_string().str();
    if (text.find('%') != text.npos) {
      throw jinja::not_implemented_exception("format of a text with %");
    }
    return format(arguments);
  };
  Builtins(jinja::mk_val<jinja::value_none>())["default"] =
      [](const Arguments& arguments) {
        const jinja::value boolean = arguments.get_kwarg_or_pos("boolean", 2);
        return arguments.get_pos(boolean->as_bool() ? 1 : 0);
      };
}

// Text that is marked as safe escapes what it is joined with (jinja.patch).
void MarkSafe() {
  auto& strings = Builtins(jinja::mk_val<jinja::value_string>());
  strings["safe"] = [](const Arguments& arguments) -> jinja::value {
    auto safe =
        jinja::mk_val<jinja::value_string>(arguments.get_pos(0)->as_string());
    safe->stats.ops.insert("safe");
    return safe;
  };
}

std::string Render(const JinjaInput& input) {
  RefuseChanges();
  MakeGenerators();
  MarkSafe();
  CountCharacters();
  MendFilters();
  jinja::lexer lexer;
  const jinja::lexer_result tokens = lexer.tokenize(input.source);
  const jinja::program program = jinja::parse_from_tokens(tokens);
  jinja::context context(tokens.source);
  context.current_time = input.now;
  SetVariables(&context, input.own, false);
  SetVariables(&context, input.said, true);
  OwnRoles(&context);
  jinja::runtime runtime(context);
  const jinja::value result = runtime.execute(program);
  const auto text = jinja::runtime::gather_string_parts(result);
  std::string bytes;
  for (const jinja::string_part& part : text->val_str.parts) {
    const PartHeader header = {part.val.size(), part.is_input ? 1u : 0u};
    bytes.append(reinterpret_cast<const char*>(&header), sizeof(header));
    bytes += part.val;
  }
  return bytes;
}

ChatText FromParts(std::string_view bytes) {
  ChatText chat;
  while (!bytes.empty()) {
    PartHeader header;
    memcpy(&header, bytes.data(), sizeof(header));
    const size_t begin = chat.text.size();
    chat.text += bytes.substr(sizeof(header), header.bytes);
    bytes.remove_prefix(sizeof(header) + header.bytes);
    if (header.said != 0 && header.bytes > 0) {
      chat.said.emplace_back(begin, chat.text.size());
    }
  }
  return chat;
}

// The engine shows the source around an error in several lines.
std::string OneLine(std::string_view error) {
  constexpr std::string_view kPlace = " at line ",
                             kIn = " in source:", kReason = "Error: ";
  std::string place;
  const size_t at = error.find(kPlace);
  const size_t in = error.find(kIn, at == error.npos ? 0 : at);
  if (at != error.npos && in != error.npos) {
    const size_t begin = at + std::string_view(" at ").size();
    place = fmt::format("{}: ", error.substr(begin, in - begin));
  }
  const size_t reason = error.find(kReason);
  if (reason != error.npos && !place.empty()) {
    error.remove_prefix(reason + kReason.size());
  } else {
    error = error.substr(0, error.find('\n', 1));
  }
  constexpr size_t kMost = 300;
  std::string line = place + std::string(error.substr(0, kMost));
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line.substr(0, FirstInvalidUtf8(line));  // it may be cut
}

}  // namespace

Result<ChatText> RenderJinja(const JinjaInput& input) {
  ChildOutcome outcome =
      RunInChild(input.limits, [&input] { return Render(input); });
  switch (outcome.kind) {
    case Kind::kOutput: {
      ChatText chat = FromParts(outcome.text);
      if (FirstInvalidUtf8(chat.text) == std::string::npos) return chat;
      return Status::Model("the chat template writes text that is not UTF-8");
    }
    case Kind::kThrown:
      return Status::Model(fmt::format(
          "the chat template cannot be applied: {}", OneLine(outcome.text)));
    case Kind::kLimit:
      return Status::Model(fmt::format(
          "the chat template was stopped: it takes {}", outcome.text));
    default:
      return Status::Runtime(
          fmt::format("no process for the chat template: {}", outcome.text));
  }
}

}  // namespace pyramidkv
