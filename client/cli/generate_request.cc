#include "client/cli/generate_request.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

absl::Status CannotRead(const std::string& path) {
  return absl::InvalidArgumentError(
      absl::StrCat("--prompt-file: cannot read ", path, ": ", std::strerror(errno)));
}

// Byte for byte; - is standard input. Whether it is UTF-8 the SDK says.
absl::StatusOr<std::string> ReadPromptFile(const std::string& path) {
  const int file = path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return CannotRead(path);
  std::string text;
  char part[1 << 16];
  ssize_t count;
  while ((count = read(file, part, sizeof(part))) > 0 || (count < 0 && errno == EINTR)) {
    if (count > 0) text.append(part, count);
  }
  const absl::Status status = count < 0 ? CannotRead(path) : absl::OkStatus();
  if (file != STDIN_FILENO) close(file);
  if (!status.ok()) return status;
  return text;
}

absl::Status FillPrompt(const Args& args, v1::GenerateRequest& request) {
  std::vector<std::string> given;
  for (const char* name : {"prompt", "prompt-file", "token-ids"}) {
    if (args.Has(name)) given.push_back(absl::StrCat("--", name));
  }
  if (given.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(given[0], " and ", given[1], " exclude each other"));
  }
  if (given.empty()) {
    return absl::InvalidArgumentError("one of --prompt, --prompt-file and --token-ids is needed");
  }
  if (args.Has("token-ids")) {
    if (args.Has("raw"))
      return absl::InvalidArgumentError("--raw and --token-ids exclude each other");
    WINNOW_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, args.GetInts("token-ids"));
    request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
    return absl::OkStatus();
  }
  std::string text = args.Get("prompt");
  if (args.Has("prompt-file")) {
    WINNOW_ASSIGN_OR_RETURN(text, ReadPromptFile(args.Get("prompt-file")));
  }
  args.Has("raw") ? request.set_raw(text) : request.set_text(text);
  return absl::OkStatus();
}

absl::Status FillSelection(const Args& args, v1::SelectionOptions& selection) {
  if (args.Has("policy")) selection.set_policy(args.Get("policy"));
  if (args.Has("keep-ratio")) {
    WINNOW_ASSIGN_OR_RETURN(const double ratio, args.GetDouble("keep-ratio"));
    selection.set_keep_ratio(ratio);
  }
  if (args.Has("min-prompt-tokens")) {
    WINNOW_ASSIGN_OR_RETURN(const int64_t tokens, args.GetInt<int64_t>("min-prompt-tokens"));
    selection.set_min_prompt_tokens(tokens);
  }
  if (args.Has("min-kept-tokens")) {
    WINNOW_ASSIGN_OR_RETURN(const int64_t tokens, args.GetInt<int64_t>("min-kept-tokens"));
    selection.set_min_kept_tokens(tokens);
  }
  selection.set_explain(args.Has("explain"));
  return absl::OkStatus();
}

absl::Status FillSampling(const Args& args, v1::SamplingOptions& sampling) {
  if (args.Has("max-tokens")) {
    WINNOW_ASSIGN_OR_RETURN(const int32_t tokens, args.GetInt<int32_t>("max-tokens"));
    sampling.set_max_tokens(tokens);
  }
  if (args.Has("temperature")) {
    WINNOW_ASSIGN_OR_RETURN(const double temperature, args.GetDouble("temperature"));
    sampling.set_temperature(temperature);
  }
  if (args.Has("top-k")) {
    WINNOW_ASSIGN_OR_RETURN(const int32_t k, args.GetInt<int32_t>("top-k"));
    sampling.set_top_k(k);
  }
  if (args.Has("top-p")) {
    WINNOW_ASSIGN_OR_RETURN(const double p, args.GetDouble("top-p"));
    sampling.set_top_p(p);
  }
  if (args.Has("seed")) {
    WINNOW_ASSIGN_OR_RETURN(const uint64_t seed, args.GetInt<uint64_t>("seed"));
    sampling.set_seed(seed);
  }
  for (const std::string& stop : args.GetAll("stop")) sampling.add_stop(stop);
  sampling.set_ignore_eos(args.Has("ignore-eos"));
  return absl::OkStatus();
}

}  // namespace

const std::vector<std::string>& GenerateRequestValues() {
  static const std::vector<std::string> names = {"prompt",
                                                 "prompt-file",
                                                 "token-ids",
                                                 "policy",
                                                 "keep-ratio",
                                                 "min-prompt-tokens",
                                                 "min-kept-tokens",
                                                 "max-tokens",
                                                 "temperature",
                                                 "top-k",
                                                 "top-p",
                                                 "seed",
                                                 "stop"};
  return names;
}

const std::vector<std::string>& GenerateRequestFlags() {
  static const std::vector<std::string> names = {"raw", "explain", "ignore-eos"};
  return names;
}

absl::StatusOr<v1::GenerateRequest> ParseGenerateRequest(const Args& args) {
  v1::GenerateRequest request;
  WINNOW_RETURN_IF_ERROR(FillPrompt(args, request));
  WINNOW_RETURN_IF_ERROR(FillSelection(args, *request.mutable_selection()));
  WINNOW_RETURN_IF_ERROR(FillSampling(args, *request.mutable_sampling()));
  return request;
}

}  // namespace winnow
