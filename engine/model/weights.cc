#include "engine/model/weights.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

// Loads one rank's weights in the order of the forward pass.
class Loader {
 public:
  Loader(TensorSource& source, const ModelConfig& config, const ShardPlan& shard, Backend& backend,
         const std::function<void(int64_t)>& progress)
      : config_(config),
        shape_(config.shape),
        shard_(shard),
        backend_(backend),
        progress_(progress),
        source_(source) {}

  absl::StatusOr<Buffer> Upload(const void* data, size_t bytes) {
    WINNOW_ASSIGN_OR_RETURN(Buffer host, backend_.AllocateHost(bytes));
    std::memcpy(host.data(), data, bytes);
    WINNOW_ASSIGN_OR_RETURN(Buffer device, backend_.Allocate(bytes));
    backend_.Copy(device.data(), host.data(), bytes);
    WINNOW_RETURN_IF_ERROR(backend_.Record()->Wait(clock_, Deadline::Infinite()));
    return device;
  }

  absl::StatusOr<Buffer> Vector(const std::string& name, int64_t size) {
    std::vector<std::byte> host;
    WINNOW_RETURN_IF_ERROR(source_.AppendVector(name, size, {0, size}, host));
    return Upload(host.data(), host.size());
  }

  absl::StatusOr<Buffer> VocabularyRows(const std::string& name) {
    std::vector<std::byte> host;
    WINNOW_RETURN_IF_ERROR(AppendVocabularyRows(name, host));
    return Upload(host.data(), host.size());
  }

  absl::StatusOr<std::unique_ptr<PackedWeight>> Head(const std::string& name) {
    std::vector<std::byte> host;
    WINNOW_RETURN_IF_ERROR(AppendVocabularyRows(name, host));
    return Pack(host, shard_.vocab_count, shape_.hidden);
  }

  absl::StatusOr<LayerWeights> Layer(int layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    const int64_t d = shape_.head_dim;
    const int64_t q_rows = shape_.num_q_heads * d;
    const int64_t kv_rows = shape_.num_kv_heads * d;
    const Range q{shard_.heads.q_begin * d, shard_.heads.q_count * d};
    const Range kv{shard_.heads.kv_begin * d, shard_.heads.kv_count * d};
    const Range mlp{shard_.mlp_begin, shard_.mlp_count};
    const AttentionSpec& attention = config_.layers[layer].attention;
    LayerWeights out;
    WINNOW_ASSIGN_OR_RETURN(out.input_norm,
                            Vector(prefix + "input_layernorm.weight", shape_.hidden));
    WINNOW_ASSIGN_OR_RETURN(out.q, RowParts({{prefix + "self_attn.q_proj.weight", q_rows, q}}));
    WINNOW_ASSIGN_OR_RETURN(out.kv, RowParts({{prefix + "self_attn.k_proj.weight", kv_rows, kv},
                                              {prefix + "self_attn.v_proj.weight", kv_rows, kv}}));
    if (attention.qkv_bias) {
      WINNOW_ASSIGN_OR_RETURN(out.q_bias,
                              VectorParts({{prefix + "self_attn.q_proj.bias", q_rows, q}}));
      WINNOW_ASSIGN_OR_RETURN(out.kv_bias,
                              VectorParts({{prefix + "self_attn.k_proj.bias", kv_rows, kv},
                                           {prefix + "self_attn.v_proj.bias", kv_rows, kv}}));
    }
    if (attention.qk_norm) {
      WINNOW_ASSIGN_OR_RETURN(out.q_norm, Vector(prefix + "self_attn.q_norm.weight", d));
      WINNOW_ASSIGN_OR_RETURN(out.k_norm, Vector(prefix + "self_attn.k_norm.weight", d));
    }
    WINNOW_ASSIGN_OR_RETURN(out.o, Columns(prefix + "self_attn.o_proj.weight", q_rows, q));
    WINNOW_ASSIGN_OR_RETURN(out.post_attention_norm,
                            Vector(prefix + "post_attention_layernorm.weight", shape_.hidden));
    WINNOW_ASSIGN_OR_RETURN(out.gate_up,
                            RowParts({{prefix + "mlp.gate_proj.weight", shape_.intermediate, mlp},
                                      {prefix + "mlp.up_proj.weight", shape_.intermediate, mlp}}));
    WINNOW_ASSIGN_OR_RETURN(out.down,
                            Columns(prefix + "mlp.down_proj.weight", shape_.intermediate, mlp));
    if (progress_) progress_(source_.bytes_read());
    return out;
  }

 private:
  struct RowPart {
    std::string name;
    int64_t num_rows;
    Range rows;
  };

  absl::Status AppendVocabularyRows(const std::string& name, std::vector<std::byte>& host) {
    return source_.AppendMatrix(name, shape_.vocab_size, shape_.hidden,
                                {shard_.vocab_begin, shard_.vocab_count}, {0, shape_.hidden}, host);
  }

  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(const std::vector<std::byte>& host,
                                                     int64_t out_features, int64_t in_features) {
    return backend_.Pack({host.data(), source_.dtype(), out_features, in_features});
  }

  // Row ranges of matrices with `hidden` columns, one under the other.
  absl::StatusOr<std::unique_ptr<PackedWeight>> RowParts(const std::vector<RowPart>& parts) {
    std::vector<std::byte> host;
    int64_t rows = 0;
    for (const RowPart& part : parts) {
      WINNOW_RETURN_IF_ERROR(source_.AppendMatrix(part.name, part.num_rows, shape_.hidden,
                                                  part.rows, {0, shape_.hidden}, host));
      rows += part.rows.count;
    }
    return Pack(host, rows, shape_.hidden);
  }

  // Ranges of vectors, one after the other.
  absl::StatusOr<Buffer> VectorParts(const std::vector<RowPart>& parts) {
    std::vector<std::byte> host;
    for (const RowPart& part : parts) {
      WINNOW_RETURN_IF_ERROR(source_.AppendVector(part.name, part.num_rows, part.rows, host));
    }
    return Upload(host.data(), host.size());
  }

  // A column range of a matrix with `hidden` rows.
  absl::StatusOr<std::unique_ptr<PackedWeight>> Columns(const std::string& name,
                                                        int64_t num_columns, Range columns) {
    std::vector<std::byte> host;
    WINNOW_RETURN_IF_ERROR(
        source_.AppendMatrix(name, shape_.hidden, num_columns, {0, shape_.hidden}, columns, host));
    return Pack(host, shape_.hidden, columns.count);
  }

  const ModelConfig& config_;
  const ModelShape& shape_;
  const ShardPlan& shard_;
  Backend& backend_;
  const std::function<void(int64_t)>& progress_;
  TensorSource& source_;
  RealClock clock_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ModelWeights>> LoadWeights(
    TensorSource& source, const ModelConfig& config, const ShardPlan& shard, Backend& backend,
    const std::function<void(int64_t)>& progress) {
  auto weights = std::make_unique<ModelWeights>();
  weights->config = config;
  weights->shard = shard;
  Loader loader(source, config, shard, backend, progress);
  WINNOW_ASSIGN_OR_RETURN(weights->embedding, loader.VocabularyRows("model.embed_tokens.weight"));
  for (int layer = 0; layer < config.shape.num_layers; ++layer) {
    WINNOW_ASSIGN_OR_RETURN(LayerWeights layer_weights, loader.Layer(layer));
    weights->layers.push_back(std::move(layer_weights));
  }
  WINNOW_ASSIGN_OR_RETURN(weights->final_norm,
                          loader.Vector("model.norm.weight", config.shape.hidden));
  WINNOW_ASSIGN_OR_RETURN(
      weights->lm_head,
      loader.Head(config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"));
  const std::vector<float> inv_freq = RopeInverseFrequencies(config.rope, config.shape.head_dim);
  WINNOW_ASSIGN_OR_RETURN(weights->inv_freq,
                          loader.Upload(inv_freq.data(), inv_freq.size() * sizeof(float)));
  return weights;
}

}  // namespace winnow
