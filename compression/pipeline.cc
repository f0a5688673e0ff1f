#include "fedwatt/compression/pipeline.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/varint.h"
#include "fedwatt/model/rejection.h"
#include "kernels.h"
#include "stage_support.h"

namespace fedwatt {

namespace internal {
void InstallTransforms(TransformRegistry& registry);
void InstallPackers(PackerRegistry& registry);
}  // namespace internal

TransformRegistry& Transforms() {
  static auto* registry = [] {
    auto* made = new TransformRegistry("transform");
    internal::InstallTransforms(*made);
    return made;
  }();
  return *registry;
}

PackerRegistry& Packers() {
  static auto* registry = [] {
    auto* made = new PackerRegistry("packer");
    internal::InstallPackers(*made);
    return made;
  }();
  return *registry;
}

namespace {

// No codec needs more for one value; what a packer may unfold to is bounded by it.
constexpr size_t kMaxCodedBytesPerValue = 16;
constexpr size_t kMaxCodedOverhead = 1 << 16;

// More are never useful, and each is a level of recursion in decoding what may be hostile.
constexpr size_t kMaxStages = 8;

// Error feedback needs stages that lose less than they are given. Unbiased ones at low rates add noise greater than the values, and the residual would
// grow from round to round.
bool OutgrowsFeedback(const StageSpec& stage) {
  const auto option = [&stage](const std::string& key) {
    auto it = stage.options.find(key);
    return it == stage.options.end() ? std::string() : it->second;
  };
  return stage.name == "dithered" || (stage.name == "ternary" && option("clip").empty()) || stage.name == "int2" || (stage.name == "random_k" && option("scale") != "none") ||
         (stage.name == "sign" && option("scale") == "unbiased");
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::binary_search(names.begin(), names.end(), name);
}

Segment SegmentOf(const LayoutEntry& entry) {
  const int64_t count = entry.element_count();
  const int64_t rows = entry.shape.size() < 2 ? 1 : entry.shape[0];
  return Segment{rows, count / rows};
}

// A layout's values as the stages see them: parameters, one segment each; buffers apart.
struct Split {
  explicit Split(const ParameterLayout& layout) {
    for (size_t i = 0; i < layout.entries().size(); ++i) {
      const LayoutEntry& entry = layout.entries()[i];
      if (entry.kind == EntryKind::kParameter) {
        segments.push_back(SegmentOf(entry));
        offsets.push_back(layout.offset(i));
        parameter_count += entry.element_count();
      } else if (entry.kind == EntryKind::kAveragedBuffer) {
        buffers.push_back({layout.offset(i), layout.offset(i) + entry.element_count()});
        buffer_count += entry.element_count();
      }
    }
  }
  std::vector<Segment> segments;
  std::vector<int64_t> offsets;  // of each segment in the layout
  std::vector<std::pair<int64_t, int64_t>> buffers;
  int64_t parameter_count = 0;
  int64_t buffer_count = 0;
};

absl::Status CheckFinite(absl::Span<const float> values) {
  return internal::AllFinite(values) ? absl::OkStatus() : internal::RefuseNotFinite("", values);
}

}  // namespace

std::vector<std::string> StageNames() {
  std::vector<std::string> names = Transforms().Names();
  for (const auto& more : {Codecs().Names(), Packers().Names()}) names.insert(names.end(), more.begin(), more.end());
  names.push_back(std::string(kErrorFeedbackStage));
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<Pipeline> Pipeline::Create(std::string_view spec) {
  Pipeline pipeline;
  pipeline.spec_ = std::string(spec);
  const std::vector<std::string> transforms = Transforms().Names(), codecs = Codecs().Names(), packers = Packers().Names();
  const auto refuse = [&spec](const absl::AlphaNum& what) {
    return absl::InvalidArgumentError(absl::StrCat("compression '", std::string(spec), "': ", what));
  };
  for (absl::string_view part : absl::StrSplit(absl::string_view(spec.data(), spec.size()), ',')) {
    FEDWATT_ASSIGN_OR_RETURN(StageSpec stage, ParseStage({part.data(), part.size()}));
    if (stage.name == kErrorFeedbackStage) {
      if (!pipeline.stage_names_.empty()) return refuse("'ef' comes first, once");
      if (!stage.options.empty()) return refuse("'ef' has no options");
      pipeline.error_feedback_ = true;
    } else if (Contains(transforms, stage.name)) {
      if (pipeline.codec_ != nullptr) return refuse(absl::StrCat("'", stage.name, "' comes before the codec '", std::string(pipeline.codec_->name()), "'"));
      FEDWATT_ASSIGN_OR_RETURN(TransformFactory make, Transforms().Find(stage.name));
      FEDWATT_ASSIGN_OR_RETURN(pipeline.transforms_.emplace_back(), make(stage.options));
    } else if (Contains(packers, stage.name)) {
      if (pipeline.codec_ == nullptr) return refuse(absl::StrCat("'", stage.name, "' packs bytes, so it comes after a codec"));
      FEDWATT_ASSIGN_OR_RETURN(PackerFactory make, Packers().Find(stage.name));
      FEDWATT_ASSIGN_OR_RETURN(pipeline.packers_.emplace_back(), make(stage.options));
    } else if (Contains(codecs, stage.name)) {
      if (pipeline.codec_ != nullptr) return refuse(absl::StrCat("two codecs, '", std::string(pipeline.codec_->name()), "' and '", stage.name, "'"));
      FEDWATT_ASSIGN_OR_RETURN(CodecFactory make, Codecs().Find(stage.name));
      FEDWATT_ASSIGN_OR_RETURN(pipeline.codec_, make(stage.options));
    } else {
      const std::vector<std::string> known = StageNames();
      const std::string nearest = NearestName(stage.name, known);
      return absl::NotFoundError(absl::StrCat("unknown codec stage '", stage.name, "'", nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?"),
                                              "; known: ", absl::StrJoin(known, ", ")));
    }
    if (pipeline.error_feedback_ && OutgrowsFeedback(stage)) {
      return refuse(absl::StrCat("'", stage.name, "' is unbiased and its noise outgrows error feedback; leave out 'ef'",
                                 stage.name == "random_k" ? ", or give scale=none" : ""));
    }
    pipeline.stage_names_.push_back(stage.name);
    if (pipeline.stage_names_.size() > kMaxStages) return refuse(absl::StrCat("more than ", kMaxStages, " stages"));
  }
  if (pipeline.codec_ == nullptr) return refuse(absl::StrCat("no codec; one of ", absl::StrJoin(codecs, ", ")));
  return pipeline;
}

bool Pipeline::sparse() const {
  // A sparsifier at the outside gives sparse values, whatever codes them.
  return transforms_.empty() ? codec_->sparse() : transforms_.front()->sparse();
}

absl::StatusOr<std::string> Pipeline::Encode(const ParameterLayout& layout, absl::Span<const float> values, uint64_t seed, int64_t round) const {
  FEDWATT_CHECK(static_cast<int64_t>(values.size()) == layout.value_count());
  const Split split(layout);
  const bool codec_sees_all = split.buffer_count == 0 && transforms_.empty();
  if (!codec_sees_all || !codec_->refuses_not_finite()) FEDWATT_RETURN_IF_ERROR(CheckFinite(values));
  std::string payload;
  for (const auto& [begin, end] : split.buffers) {
    payload.append(reinterpret_cast<const char*>(values.data() + begin), static_cast<size_t>(end - begin) * sizeof(float));
  }
  SegmentedValues data;
  data.segments = split.segments;
  absl::Span<const float> parameters = values;
  if (!codec_sees_all) {
    data.values.reserve(static_cast<size_t>(split.parameter_count));
    for (size_t i = 0; i < split.segments.size(); ++i) {
      const float* begin = values.data() + split.offsets[i];
      data.values.insert(data.values.end(), begin, begin + split.segments[i].count());
    }
    parameters = {};
  }
  for (const auto& transform : transforms_) {
    std::string side;
    const std::vector<Segment> outer = data.segments;
    FEDWATT_RETURN_IF_ERROR(transform->Forward(data, CodingContext{outer, seed, round}, side));
    PutVarint(side.size(), payload);
    payload += side;
  }
  FEDWATT_ASSIGN_OR_RETURN(std::string coded, codec_->Encode(parameters.empty() ? absl::MakeConstSpan(data.values) : parameters,
                                                             CodingContext{data.segments, seed, round}));
  for (const auto& packer : packers_) {
    FEDWATT_ASSIGN_OR_RETURN(coded, packer->Pack(coded));
  }
  return payload.empty() ? std::move(coded) : payload + coded;
}

absl::Status Pipeline::Unpack(size_t count, std::string& unpacked, std::string_view& coded) const {
  for (auto packer = packers_.rbegin(); packer != packers_.rend(); ++packer) {
    FEDWATT_ASSIGN_OR_RETURN(unpacked, (*packer)->Unpack(coded, count * kMaxCodedBytesPerValue + kMaxCodedOverhead));
    coded = unpacked;
  }
  return absl::OkStatus();
}

absl::Status Pipeline::DecodeFrom(size_t stage, std::string_view bytes, absl::Span<const Segment> segments, uint64_t seed, int64_t round,
                                  DecodedValues& out) const {
  const CodingContext context{segments, seed, round};
  if (stage < transforms_.size()) {
    FEDWATT_ASSIGN_OR_RETURN(uint64_t side_size, TakeVarint(bytes));
    if (side_size > bytes.size()) return absl::DataLossError(absl::StrCat("side information of ", side_size, " bytes, ", bytes.size(), " are left"));
    const std::string_view side = bytes.substr(0, side_size), rest = bytes.substr(side_size);
    return transforms_[stage]->Inverse(
        side, context,
        [&](absl::Span<const Segment> inner_segments, std::vector<float>& values) -> absl::Status {
          DecodedValues inner;
          FEDWATT_RETURN_IF_ERROR(DecodeFrom(stage + 1, rest, inner_segments, seed, round, inner));
          if (inner.is_sparse) internal::MakeDense(internal::CountValues(inner_segments), inner);
          values = std::move(inner.dense);
          // Codecs that keep every bit keep those of NaN.
          if (!internal::AllFinite(values)) return absl::DataLossError("a value within is not finite");
          return absl::OkStatus();
        },
        out);
  }
  std::string unpacked;
  const size_t count = static_cast<size_t>(internal::CountValues(segments));
  FEDWATT_RETURN_IF_ERROR(Unpack(count, unpacked, bytes));
  out.is_sparse = codec_->sparse();
  if (out.is_sparse) return codec_->DecodeSparse(bytes, context, out.sparse);
  out.dense.resize(count);
  return codec_->Decode(bytes, context, absl::MakeSpan(out.dense));
}

absl::Status Pipeline::Decode(std::string_view bytes, const ParameterLayout& layout, uint64_t seed, int64_t round, DecodedValues& out) const {
  const Split split(layout);
  const size_t buffer_bytes = static_cast<size_t>(split.buffer_count) * sizeof(float);
  if (bytes.size() < buffer_bytes) {
    return absl::DataLossError(absl::StrCat(spec_, ": ", bytes.size(), " bytes, the buffers alone take ", buffer_bytes));
  }
  std::vector<float> buffers(static_cast<size_t>(split.buffer_count));
  if (!buffers.empty()) std::memcpy(buffers.data(), bytes.data(), buffer_bytes);
  if (absl::Status finite = CheckFinite(buffers); !finite.ok()) return absl::DataLossError(absl::StrCat(spec_, ": buffers: ", std::string(finite.message())));
  FEDWATT_RETURN_IF_ERROR(DecodeFrom(0, bytes.substr(buffer_bytes), split.segments, seed, round, out));
  // What an earlier use of `out` left in the other kind.
  if (out.is_sparse) {
    out.dense.clear();
  } else {
    out.sparse.indices.clear();
    out.sparse.values.clear();
  }
  if (buffers.empty()) return absl::OkStatus();

  // From the parameters' own numbering to the layout's.
  if (out.is_sparse) {
    std::vector<int64_t> begins;  // of each segment among the parameters
    int64_t begin = 0;
    for (const Segment& segment : split.segments) {
      begins.push_back(begin);
      begin += segment.count();
    }
    for (uint32_t& index : out.sparse.indices) {
      const size_t segment = static_cast<size_t>(std::upper_bound(begins.begin(), begins.end(), static_cast<int64_t>(index)) - begins.begin()) - 1;
      index = static_cast<uint32_t>(split.offsets[segment] + (index - begins[segment]));
    }
    size_t next = 0;
    for (const auto& [first, last] : split.buffers) {
      for (int64_t i = first; i < last; ++i) {
        out.sparse.indices.push_back(static_cast<uint32_t>(i));
        out.sparse.values.push_back(buffers[next++]);
      }
    }
    return absl::OkStatus();
  }
  std::vector<float> parameters = std::move(out.dense);
  out.dense.assign(static_cast<size_t>(layout.value_count()), 0);
  const float* from = parameters.data();
  for (size_t i = 0; i < split.segments.size(); ++i) {
    std::copy(from, from + split.segments[i].count(), out.dense.begin() + split.offsets[i]);
    from += split.segments[i].count();
  }
  from = buffers.data();
  for (const auto& [first, last] : split.buffers) {
    std::copy(from, from + (last - first), out.dense.begin() + first);
    from += last - first;
  }
  return absl::OkStatus();
}

bool Pipeline::VisitBlocks(std::string_view bytes, const ParameterLayout& layout, uint64_t seed, int64_t round, BlockVisitor visit) const {
  if (!transforms_.empty() || codec_->sparse()) return false;
  const Split split(layout);
  if (bytes.size() < static_cast<size_t>(split.buffer_count) * sizeof(float)) return false;
  for (const auto& [begin, end] : split.buffers) {
    const size_t count = static_cast<size_t>(end - begin);
    if (!visit({.kind = ValueBlock::Kind::kFloat32, .begin = static_cast<size_t>(begin), .count = count, .data = bytes.data()})) return false;
    bytes.remove_prefix(count * sizeof(float));
  }
  std::string unpacked;
  if (!Unpack(static_cast<size_t>(split.parameter_count), unpacked, bytes).ok()) return false;
  // From the parameters' own numbering to the layout's. Blocks come in order.
  size_t segment = 0, segment_begin = 0;
  const auto visit_parameters = [&](ValueBlock rest) {
    while (rest.count > 0) {
      size_t segment_count;
      while (rest.begin >= segment_begin + (segment_count = static_cast<size_t>(split.segments[segment].count()))) {
        segment_begin += segment_count;
        ++segment;
      }
      ValueBlock part = rest;
      part.count = std::min(rest.count, segment_begin + segment_count - rest.begin);
      part.begin = static_cast<size_t>(split.offsets[segment]) + rest.begin - segment_begin;
      if (!visit(part)) return false;
      rest.RemovePrefix(part.count);
    }
    return true;
  };
  return codec_->VisitBlocks(bytes, CodingContext{split.segments, seed, round}, visit_parameters);
}

absl::Status Pipeline::DecodeDense(std::string_view bytes, const ParameterLayout& layout, uint64_t seed, int64_t round, absl::Span<float> out) const {
  FEDWATT_CHECK(static_cast<int64_t>(out.size()) == layout.value_count());
  DecodedValues decoded;
  FEDWATT_RETURN_IF_ERROR(Decode(bytes, layout, seed, round, decoded));
  if (decoded.is_sparse) internal::MakeDense(static_cast<int64_t>(out.size()), decoded);
  std::copy(decoded.dense.begin(), decoded.dense.end(), out.begin());
  return absl::OkStatus();
}

}  // namespace fedwatt
