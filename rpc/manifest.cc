#include "fedwatt/rpc/manifest.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "absl/strings/str_cat.h"
#include "certificates.h"
#include "fedwatt/base/status_macros.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace fedwatt {
namespace {

using internal::BioPtr;
using internal::KeyPtr;
using ContextPtr = std::unique_ptr<EVP_MD_CTX, internal::Freer<EVP_MD_CTX_free>>;

constexpr std::string_view kDomain = "fedwatt manifest 1";
constexpr int kRoundBits = 24;
constexpr size_t kSignatureBytes = 64;

const unsigned char* Bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

}  // namespace

absl::StatusOr<SigningKey> MakeSigningKey() {
  KeyPtr key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (key == nullptr) return internal::OpenSslError("making a signing key");
  SigningKey pair;
  FEDWATT_ASSIGN_OR_RETURN(pair.private_pem, internal::KeyToPem(key.get()));
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PUBKEY(bio.get(), key.get()) != 1) return internal::OpenSslError("writing a public key");
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  pair.public_pem.assign(data, static_cast<size_t>(size));
  return pair;
}

Digest PlanDigest(const v1::Plan& plan) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);  // maps have no order of their own
    plan.SerializeToCodedStream(&coded);
  }
  return Sha256(bytes);
}

std::string ManifestBytes(int64_t release_number, const Digest& plan, const Digest& model) {
  std::string bytes(kDomain);
  bytes.push_back('\0');
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(static_cast<uint64_t>(release_number) >> (8 * i)));
  return bytes + plan.Raw() + model.Raw();
}

absl::StatusOr<std::unique_ptr<ManifestSigner>> ManifestSigner::Create(std::string_view private_pem, int64_t epoch) {
  FEDWATT_ASSIGN_OR_RETURN(KeyPtr key, internal::KeyFromPem(private_pem));
  if (EVP_PKEY_is_a(key.get(), "ED25519") != 1) return absl::DataLossError("signing key: not Ed25519");
  if (epoch < 1 || epoch >= (int64_t{1} << (62 - kRoundBits))) return absl::InvalidArgumentError(absl::StrCat("release: epoch ", epoch));
  return std::unique_ptr<ManifestSigner>(new ManifestSigner(key.release(), epoch));
}

ManifestSigner::~ManifestSigner() { EVP_PKEY_free(key_); }

absl::Status ManifestSigner::SignWith(const v1::Plan& plan, const std::string& model_digest, v1::ManifestSignature* manifest) {
  FEDWATT_ASSIGN_OR_RETURN(const Digest model, Digest::FromRaw(model_digest));
  const int64_t number = (epoch_ << kRoundBits) + std::min(newest_round_, (int64_t{1} << kRoundBits) - 1);
  const std::string bytes = ManifestBytes(number, PlanDigest(plan), model);
  std::string signature(kSignatureBytes, '\0');
  size_t size = signature.size();
  ContextPtr context(EVP_MD_CTX_new());
  if (EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, Bytes(bytes), bytes.size()) != 1 || size != kSignatureBytes) {
    return internal::OpenSslError("signing a manifest");
  }
  manifest->set_release_number(number);
  manifest->set_signature(signature);
  return absl::OkStatus();
}

absl::Status VerifyManifest(std::string_view public_pem, const v1::Plan& plan, const std::string& model_digest, const v1::ManifestSignature& manifest) {
  BioPtr bio(BIO_new_mem_buf(public_pem.data(), static_cast<int>(public_pem.size())));
  KeyPtr key(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (key == nullptr || EVP_PKEY_is_a(key.get(), "ED25519") != 1) return absl::DataLossError("pinned signing key: not an Ed25519 public key in PEM");
  if (manifest.signature().empty()) return absl::UnauthenticatedError("manifest: the assignment is not signed");
  absl::StatusOr<Digest> model = Digest::FromRaw(model_digest);
  bool genuine = false;
  if (model.ok() && manifest.signature().size() == kSignatureBytes) {
    const std::string bytes = ManifestBytes(manifest.release_number(), PlanDigest(plan), *model);
    ContextPtr context(EVP_MD_CTX_new());
    genuine = EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
              EVP_DigestVerify(context.get(), Bytes(manifest.signature()), manifest.signature().size(), Bytes(bytes), bytes.size()) == 1;
    ERR_clear_error();
  }
  if (!genuine) return absl::UnauthenticatedError("manifest: the signature is not of the pinned key over this plan, model and release number");
  return absl::OkStatus();
}

}  // namespace fedwatt
