#include "router/model_list.h"

#include "common/status_macros.h"

namespace winnow {

absl::StatusOr<v1::Model> ModelList::Get() const {
  WINNOW_ASSIGN_OR_RETURN(const v1::WorkerInfo info, registry_.Model());
  v1::Model model;
  model.set_id(info.model_id());
  model.set_vocab_size(info.vocab_size());
  model.set_max_context(info.max_context());
  *model.mutable_profile() = info.profile();
  model.set_chat_window_offset(chat_window_offset_.value_or(info.profile().window_offset()));
  *model.mutable_eos_token_ids() = info.eos_token_ids();
  for (const v1::WorkerInfo& worker : registry_.Workers()) *model.add_workers() = worker;
  return model;
}

}  // namespace winnow
