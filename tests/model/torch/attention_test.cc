// Four kinds of attention against plain formulas, and what all of them promise.
#include "model/torch/attention.h"

#include <cmath>

#include "fedwatt/base/random.h"
#include "model/torch/network.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using internal::AttendLinear;
using internal::AttendLocal;
using internal::AttendRandomFeatures;
using internal::AttendSoftmax;

at::Tensor Normal(std::vector<int64_t> shape, uint64_t seed, double scale = 1) {
  Random random(seed);
  at::Tensor values = at::empty(shape);
  for (int64_t i = 0; i < values.numel(); ++i) values.data_ptr<float>()[i] = static_cast<float>(scale * random.Normal());
  return values;
}

double Distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

// softmax(q k / sqrt(s)) v where `seen` [L, L] allows it, in one piece.
at::Tensor Dense(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& seen) {
  const at::Tensor scores = at::bmm(q, k.transpose(1, 2)) / std::sqrt(static_cast<double>(q.size(2)));
  return at::bmm(scores.masked_fill(seen.logical_not(), -INFINITY).softmax(2), v);
}

at::Tensor Causal(int64_t length) { return at::ones({length, length}).tril().to(at::kBool); }

at::Tensor Features(int64_t count, int64_t size, float rounds = 0, int64_t redraw = 0) {
  const std::vector<float> values = internal::DrawFeatures({.features = count, .redraw_rounds = redraw, .seed = 3}, size, 1, rounds);
  return at::from_blob(const_cast<float*>(values.data()), {count, size}).clone();
}

TEST(AttentionTest, SoftmaxByHand) {
  // Scores of position 1: q k / 1 = 0 and log 3, so weights 1/4 and 3/4.
  const at::Tensor q = at::ones({1, 2, 1}), k = at::tensor({0.0f, std::log(3.0f)}).view({1, 2, 1}), v = at::tensor({8.0f, 4.0f}).view({1, 2, 1});
  const at::Tensor out = AttendSoftmax(q, k, v);
  EXPECT_FLOAT_EQ(out[0][0][0].item<float>(), 8);
  EXPECT_NEAR(out[0][1][0].item<float>(), 5, 1e-6);
}

TEST(AttentionTest, LinearByHand) {
  // elu(x) + 1: 1 -> 2, 0 -> 1. Position 1: 2 * (2 * 8 + 1 * 4) / (2 * (2 + 1)).
  const at::Tensor q = at::ones({1, 2, 1}), k = at::tensor({1.0f, 0.0f}).view({1, 2, 1}), v = at::tensor({8.0f, 4.0f}).view({1, 2, 1});
  EXPECT_NEAR(AttendLinear(q, k, v)[0][1][0].item<float>(), 20.0 / 3, 1e-5);
}

// Longer than one chunk of queries, and not a multiple of it.
TEST(AttentionTest, ChunksOfSoftmaxAreTheWholeMatrix) {
  const int64_t length = 2 * internal::kSoftmaxChunk + 5;
  const at::Tensor q = Normal({2, length, 4}, 1), k = Normal({2, length, 4}, 2), v = Normal({2, length, 4}, 3);
  EXPECT_LT(Distance(AttendSoftmax(q, k, v), Dense(q, k, v, Causal(length))), 1e-5);
}

TEST(AttentionTest, LocalIsDenseUnderTheSameMask) {
  for (const int64_t length : {1, 3, 8, 21}) {
    for (const int64_t window : {1, 3, 4, 50}) {
      for (const int64_t global : {0, 1, 3, 40}) {
        const at::Tensor q = Normal({3, length, 4}, 1), k = Normal({3, length, 4}, 2), v = Normal({3, length, 4}, 3);
        at::Tensor seen = at::zeros({length, length}).to(at::kBool);
        for (int64_t i = 0; i < length; ++i) {
          for (int64_t j = 0; j <= i; ++j) seen[i][j] = j > i - window || j < global;
        }
        EXPECT_LT(Distance(AttendLocal(q, k, v, {window, global}), Dense(q, k, v, seen)), 1e-5) << length << " " << window << " " << global;
      }
    }
  }
}

// The parallel form, by chunks, against the recurrence of Katharopoulos et al. 2020, eq. 18 to 20.
TEST(AttentionTest, LinearIsItsRecurrence) {
  for (const int64_t length : {1, 64, 65, 200}) {
    const at::Tensor q = Normal({2, length, 5}, 4), k = Normal({2, length, 5}, 5), v = Normal({2, length, 5}, 6);
    at::Tensor state = at::zeros({2, 5, 5}), normaliser = at::zeros({2, 5, 1});
    std::vector<at::Tensor> outs;
    for (int64_t i = 0; i < length; ++i) {
      const at::Tensor key = (at::elu(k.select(1, i)) + 1).unsqueeze(2), query = (at::elu(q.select(1, i)) + 1).unsqueeze(1);
      state = state + at::bmm(key, v.select(1, i).unsqueeze(1));
      normaliser = normaliser + key;
      outs.push_back(at::bmm(query, state) / at::bmm(query, normaliser));
    }
    EXPECT_LT(Distance(AttendLinear(q, k, v), at::cat(outs, 1)), 1e-5) << length;
  }
}

TEST(AttentionTest, RandomFeaturesApproachSoftmaxAsTheyGrow) {
  const int64_t length = 100, size = 8;
  const at::Tensor q = Normal({4, length, size}, 7, 0.5), k = Normal({4, length, size}, 8, 0.5), v = Normal({4, length, size}, 9);
  const at::Tensor exact = AttendSoftmax(q, k, v);
  std::vector<double> errors;
  for (const int64_t count : {8, 64, 512}) {
    double squares = 0;
    for (float draw : {0, 1, 2, 3, 4, 5, 6, 7}) {
      squares += (AttendRandomFeatures(q, k, v, Features(count, size, draw, /*redraw=*/1)) - exact).square().mean().item<double>() / 8;
    }
    errors.push_back(std::sqrt(squares));
  }
  // Eight times the features, about sqrt(8) times less error.
  for (size_t i = 1; i < errors.size(); ++i) EXPECT_LT(errors[i], errors[i - 1] / 2) << i;
  EXPECT_LT(errors.back(), 0.03);
}

TEST(AttentionTest, FeaturesAreOrthogonalRepeatAndAreRedrawnByRounds) {
  const at::Tensor features = Features(16, 8), lengths = features.norm(2, 1);
  const at::Tensor products = at::mm(features.narrow(0, 0, 8), features.narrow(0, 0, 8).t());
  EXPECT_LT(Distance(products, at::diag(lengths.narrow(0, 0, 8).square())), 1e-4);
  // Lengths are those of normal vectors: their squares are 8 on average.
  const at::Tensor many = Features(4096, 8);
  EXPECT_NEAR(many.square().sum(1).mean().item<double>(), 8, 0.3);
  EXPECT_NEAR(many.mean().item<double>(), 0, 0.02);
  EXPECT_TRUE(at::equal(features, Features(16, 8)));
  EXPECT_TRUE(at::equal(features, Features(16, 8, /*rounds=*/9))) << "never redrawn";
  EXPECT_TRUE(at::equal(features, Features(16, 8, /*rounds=*/9, /*redraw=*/10)));
  EXPECT_FALSE(at::equal(features, Features(16, 8, /*rounds=*/10, /*redraw=*/10)));
  EXPECT_TRUE(at::equal(Features(16, 8, 10, 10), Features(16, 8, 19, 10)));
  EXPECT_TRUE(at::equal(features, Features(16, 8, NAN, 10))) << "whatever a model claims";
}

using Kind = std::function<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&)>;
struct Named {
  const char* name;
  Kind attend;
};
std::vector<Named> Kinds() {
  return {{"softmax", AttendSoftmax},
          {"linear", AttendLinear},
          {"local", [](const auto& q, const auto& k, const auto& v) { return AttendLocal(q, k, v, {6, 2}); }},
          {"random_features", [](const auto& q, const auto& k, const auto& v) { return AttendRandomFeatures(q, k, v, Features(8, 4)); }}};
}

// Whatever comes later, the very same bits; large values, so that a shared maximum would show.
TEST(AttentionTest, NoOutputDependsOnALaterPosition) {
  for (const Named& kind : Kinds()) {
    const int64_t length = 150;
    at::Tensor q = Normal({2, length, 4}, 1), k = Normal({2, length, 4}, 2), v = Normal({2, length, 4}, 3);
    const at::Tensor before = kind.attend(q, k, v);
    for (const int64_t last : {0, 5, 63, 64, 130}) {
      at::Tensor q2 = q.clone(), k2 = k.clone(), v2 = v.clone();
      const int64_t rest = length - last - 1;
      for (at::Tensor* x : {&q2, &k2, &v2}) x->narrow(1, last + 1, rest).copy_(Normal({2, rest, 4}, 11, 10));
      const at::Tensor after = kind.attend(q2, k2, v2);
      EXPECT_TRUE(at::equal(after.narrow(1, 0, last + 1), before.narrow(1, 0, last + 1))) << kind.name << " " << last;
      EXPECT_FALSE(at::equal(after, before)) << kind.name;
    }
  }
}

TEST(AttentionTest, GradientsAreThoseOfNumericalDifferences) {
  for (const Named& kind : Kinds()) {
    std::vector<at::Tensor> inputs;
    for (uint64_t seed : {1, 2, 3}) inputs.push_back(Normal({2, 9, 4}, seed, 0.7).set_requires_grad(true));
    const at::Tensor weights = Normal({2, 9, 4}, 5);
    const auto value = [&] { return (kind.attend(inputs[0], inputs[1], inputs[2]) * weights).sum(); };
    const std::vector<at::Tensor> gradients = torch::autograd::grad({value()}, inputs);
    at::NoGradGuard no_grad;
    for (size_t which = 0; which < inputs.size(); ++which) {
      for (int64_t i = 0; i < inputs[which].numel(); i += 7) {
        float& x = inputs[which].data_ptr<float>()[i];
        const float was = x, step = 1e-2f;
        x = was + step;
        const double above = value().item<double>();
        x = was - step;
        const double below = value().item<double>();
        x = was;
        EXPECT_NEAR(gradients[which].flatten()[i].item<double>(), (above - below) / (2 * step), 3e-3) << kind.name << " " << which << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace fedwatt
