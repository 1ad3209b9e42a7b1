// Batch: many requests on one engine, a step at a time.
//
//   PKV_ASSIGN_OR_RETURN(auto batch, engine->NewBatch({}));
//   for (const std::string& prompt : prompts) {
//     BatchRequest request;
//     request.text = prompt;
//     request.session.kv = "snapkv-wide,keep=0.5";
//     request.generate.max_tokens = 32;
//     request.on_done = [prompt](const BatchResult& result) {
//       std::cout << prompt << result.generation.text << "\n";
//     };
//     PKV_RETURN_IF_ERROR(batch->Submit(std::move(request)).status());
//   }
//   while (batch->Step()) {
//   }
//
// A server submits from its own threads meanwhile, and where Step says that
// there is nothing to do its engine thread calls Wait.
//
// A step is short: one wave of one prompt (tens of milliseconds of work, or
// what ends one of its layers), or one token of every answer in the making.
// Steps of both kinds take turns, and so do the prompts, so that answers flow
// while long prompts are read and no prompt waits for another's end.
//
// Each result is that of a Session of its own, to the bit: the tokens, their
// log-probabilities and what stays in the cache do not depend on what else
// runs.
//
// Results come by callbacks, in the thread that calls Step, in order, and never
// while a lock is held: a callback may Submit and Cancel (but not Step), and
// must not block. A server hands them to the connection's strand, an event loop
// to itself (asyncio: call_soon_threadsafe).
//
// A request that fails fails alone.
//
// Thread safety: Submit, Cancel, Wait and load from any thread. Step from one
// thread at a time, which is the engine's (engine.h); the destructor from it,
// too.

#ifndef PYRAMIDKV_BATCH_H_
#define PYRAMIDKV_BATCH_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/kv_report.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

struct BatchOptions {
  // Most that the caches and the prompts' memory of all admitted requests may
  // take, as they are planned; 0: no limit.
  int64_t memory_bytes = 0;
  // Requests that are admitted at once, 1 to 1,024.
  int max_sequences = 64;
};

struct BatchResult {
  // kCancelled for a request that was cancelled before its answer began;
  // otherwise what Session::Read or Generate would say.
  Status status;
  // As far as it came. finish_reason: stop, length or cancelled; empty after
  // an error. Its times count from the end of the prompt.
  Generation generation;
  KvReport kv;            // at the end; empty where there is no session
  int prompt_tokens = 0;  // read by this request
  double queued_ms = 0;   // from Submit until it was admitted
  double prompt_ms = 0;   // from then until the prompt was read
  // To go on from. The last token chosen is not in it yet, as after
  // Session::Generate. Null after an error that made it unusable.
  std::unique_ptr<Session> session;
};

struct BatchRequest {
  // The context to go on from; null: a new session of the options below. Its
  // owner keeps it by giving a Fork().
  std::unique_ptr<Session> context;
  SessionOptions session;

  // The prompt: the first of these that is not empty. Text is tokenised as
  // Engine::Tokenize does it, without BOS where there is a context; messages
  // go through the chat template, and only where there is none. With a context
  // a prompt may be missing: the answer begins at once.
  std::vector<int> tokens;
  std::vector<ChatMessage> messages;
  std::string text;
  ChatOptions chat;  // of messages; they end with the answer's header

  // Its callbacks are called from Step. max_tokens < 0 plans for the rest of
  // the context.
  GenerateOptions generate;

  // Rows-times-layers of the prompt done and in all, after each wave.
  std::function<void(int64_t done, int64_t total)> on_prompt;
  // Called once for every request that Submit took, last of all.
  std::function<void(BatchResult result)> on_done;
};

struct BatchLoad {
  int waiting = 0;         // submitted, not admitted
  int prompts = 0;         // being read
  int answers = 0;         // in the making
  int64_t bytes = 0;       // planned, of what is admitted
  int64_t most_bytes = 0;  // the highest that was
};

class Batch {
 public:
  using RequestId = uint64_t;

  // Whatever is left is cancelled: each on_done is called, and may submit no
  // more.
  virtual ~Batch() = default;

  // Queues a request. It is admitted in the order of submission, once what it
  // is planned to take fits beside what runs; nothing overtakes it. The plan
  // counts the cache of prompt and answer (plan.h) and what reading the prompt
  // takes, which is given back when it has been read.
  // Errors, with nothing queued: kUsage for the spec, the prompt or options;
  // kDoesNotFit past the context size, or if it could never be admitted.
  virtual Result<RequestId> Submit(BatchRequest request) = 0;

  // Ends a request before the next Step does anything else; its on_done says
  // "cancelled". Nothing happens if it is done or unknown.
  virtual void Cancel(RequestId id) = 0;

  // Does one step. False: there was nothing to do.
  virtual bool Step() = 0;

  // Until there is something to do, or for `timeout`. True: there is.
  virtual bool Wait(std::chrono::milliseconds timeout) = 0;

  virtual BatchLoad load() const = 0;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BATCH_H_
