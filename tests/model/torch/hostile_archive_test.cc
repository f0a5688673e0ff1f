// Malicious TorchScript archives: none has an effect outside its process, and the process that asked goes on and says what happened.
// Prints one line an archive: what it tried, what its user is told, and after how long.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>

#include <caffe2/serialize/inline_container.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "fedwatt/model/torchscript/torch_script_trainer.h"
#include "model/torch/pch.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::Spec;
using ::fedwatt::testing::StatusIs;

constexpr char kHonest[] = "return torch.linear(x, self.weight, self.bias)";
// Where archives try to reach; %O in their code.
std::string Outside() { return absl::StrCat(::testing::TempDir(), "/outside_", getpid()); }

std::string Replace(std::string text, const std::string& what, const std::string& by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size()) text.replace(at, what.size(), by);
  return text;
}

// A linear layer from 4 to 3 whose methods are these.
std::string Saved(const std::string& methods, const std::function<void(torch::jit::Module&)>& change = {}) {
  torch::jit::Module module("Linear");
  module.register_attribute("training", c10::BoolType::get(), true);
  module.register_parameter("weight", at::full({3, 4}, 0.1f).set_requires_grad(true), false);
  module.register_parameter("bias", at::zeros({3}).set_requires_grad(true), false);
  if (change) change(module);
  if (!methods.empty()) module.define(Replace(methods, "%O", Outside()));
  std::ostringstream out;
  module.save(out);
  return std::move(out).str();
}
std::string Indented(const std::string& lines) { return "    " + Replace(lines, "\n", "\n    ") + "\n"; }
std::string Forward(const std::string& lines) { return Saved("def forward(self, x):\n" + Indented(lines)); }
// Runs `lines` while it is loaded.
std::string OnLoad(const std::string& lines) {
  return Saved("def __getstate__(self) -> Tuple[Tensor, Tensor, bool]:\n    return (self.weight, self.bias, self.training)\n"
               "def __setstate__(self, state: Tuple[Tensor, Tensor, bool]):\n    self.weight = state[0]\n    self.bias = state[1]\n    self.training = state[2]\n" +
               Indented(lines) + "def forward(self, x):\n" + Indented(kHonest));
}

// The records of an honest archive, by name without the folder.
std::map<std::string, std::string> HonestRecords() {
  std::istringstream in(Forward(kHonest));
  caffe2::serialize::PyTorchStreamReader reader(&in);
  std::map<std::string, std::string> records;
  for (const std::string& name : reader.getAllRecords()) {
    const auto [data, size] = reader.getRecord(name);
    records[name] = std::string(static_cast<const char*>(data.get()), size);
  }
  return records;
}

// A deflate stream of `megabytes` zeros.
std::string Bomb(int megabytes) {
  const std::string zeros(1 << 20, '\0');
  std::string block(1 << 16, '\0'), stream;
  z_stream state{};
  deflateInit2(&state, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
  state.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(zeros.data()));
  state.avail_in = static_cast<uInt>(zeros.size());
  state.next_out = reinterpret_cast<Bytef*>(block.data());
  state.avail_out = static_cast<uInt>(block.size());
  deflate(&state, Z_FULL_FLUSH);  // what was flushed can be repeated
  block.resize(state.total_out);
  deflateEnd(&state);
  for (int i = 0; i < megabytes; ++i) stream += block;
  return stream + std::string("\x03\0", 2);
}

// What a zip archive's writer can lie about.
struct Entry {
  std::string name, data;
  bool deflated = false;  // data is a deflate stream
  std::optional<uint32_t> claimed_size, claimed_crc;
  uint32_t attributes = 0;
};
std::string Zip(const std::vector<Entry>& entries, std::optional<uint32_t> directory_at = {}, uint16_t comment_length = 0) {
  ByteWriter out, directory;
  for (const Entry& entry : entries) {
    const auto crc = entry.claimed_crc.value_or(static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(entry.data.data()), static_cast<uInt>(entry.data.size()))));
    const uint32_t size = entry.claimed_size.value_or(static_cast<uint32_t>(entry.data.size()));
    const uint32_t packed_size = entry.deflated ? static_cast<uint32_t>(entry.data.size()) : size;
    const auto offset = static_cast<uint32_t>(out.str().size());
    const auto common = [&](ByteWriter& to) {
      to.Put<uint16_t>(20);
      to.Put<uint16_t>(0);
      to.Put<uint16_t>(entry.deflated ? 8 : 0);
      to.Put<uint32_t>(0);
      to.Put(crc);
      to.Put(packed_size);
      to.Put(size);
      to.Put(static_cast<uint16_t>(entry.name.size()));
      to.Put<uint16_t>(0);
    };
    out.Put<uint32_t>(0x04034b50);
    common(out);
    out.PutBytes(entry.name);
    out.PutBytes(entry.data);
    directory.Put<uint32_t>(0x02014b50);
    directory.Put<uint16_t>(3 << 8 | 20);
    common(directory);
    directory.Put<uint16_t>(0);
    directory.Put<uint32_t>(0);
    directory.Put(entry.attributes);
    directory.Put(offset);
    directory.PutBytes(entry.name);
  }
  const auto at = static_cast<uint32_t>(out.str().size()), length = static_cast<uint32_t>(directory.str().size());
  out.PutBytes(directory.str());
  out.Put<uint32_t>(0x06054b50);
  out.Put<uint32_t>(0);
  for (int i = 0; i < 2; ++i) out.Put(static_cast<uint16_t>(std::min<size_t>(entries.size(), 0xffff)));
  out.Put(length);
  out.Put(directory_at.value_or(at));
  out.Put(comment_length);
  return std::move(out).str();
}
std::vector<Entry> HonestEntries() {
  std::vector<Entry> entries;
  for (const auto& [name, data] : HonestRecords()) entries.push_back({.name = "archive/" + name, .data = data});
  return entries;
}
std::string ZipWith(Entry extra) {
  std::vector<Entry> entries = HonestEntries();
  entries.push_back(std::move(extra));
  return Zip(entries);
}
std::string ZipWhere(const std::string& record, const std::function<void(Entry&)>& change) {
  std::vector<Entry> entries = HonestEntries();
  for (Entry& entry : entries) {
    if (entry.name == "archive/" + record) change(entry);
  }
  return Zip(entries);
}
std::string Pickled(const std::string& pickle) {
  return ZipWhere("data.pkl", [&](Entry& entry) { entry.data = "\x80\x02" + pickle; });
}
// A short text as a pickle holds it.
std::string Text(const std::string& text) { return "X" + std::string(1, static_cast<char>(text.size())) + std::string(3, '\0') + text; }
std::string Storage(const std::string& key) { return "(" + Text("storage") + "ctorch\nFloatStorage\n" + Text(key) + Text("cpu") + "K\x0ctQ"; }
// Of a storage of 12 values; offset, size and stride as pickled.
std::string Tensor(const std::string& key, const std::string& place) { return "ctorch._utils\n_rebuild_tensor_v2\n(" + Storage(key) + place + "\x89NtR."; }
std::string Source(const std::function<void(std::string&)>& change) {
  std::string name;
  for (const auto& [record, data] : HonestRecords()) {
    if (record.ends_with(".py")) name = record;
  }
  return ZipWhere(name, [&](Entry& entry) { change(entry.data); });
}
std::string Noise(size_t size) {
  Random random(7);
  std::string bytes;
  while (bytes.size() < size) bytes.push_back(static_cast<char>(random.Below(256)));
  return bytes;
}
std::string Repeated(const std::string& what, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += what;
  return text;
}

struct Artefact {
  std::string name;
  std::string bytes;
  bool hangs = false;  // ends only by the limit on silence
  bool works = false;  // does nothing that must be refused: it may train, without effect
};

std::vector<Artefact> Artefacts() {
  const std::string good = Forward(kHonest);
  const std::string global = "c__torch__\nLinear\n";
  std::vector<Artefact> all = {
      // Pickles, of which Python would run a few.
      {"pickle: os.system", Pickled("cos\nsystem\n(" + Text("touch /tmp/fedwatt_pickle_system") + "tR.")},
      {"pickle: builtins.exec", Pickled("cbuiltins\nexec\n(" + Text("import os") + "tR.")},
      {"pickle: subprocess.Popen", Pickled("csubprocess\nPopen\n(" + Text("ls") + "tR.")},
      {"pickle: unknown class", Pickled("c__torch__.no.such\nThing\n)\x81.")},
      {"pickle: class that is none", Pickled(global + "R.")},
      {"pickle: 2^32 memo slots", Pickled("Nr" + std::string("\xff\xff\xff\xff", 4) + ".")},
      {"pickle: memo out of range", Pickled("j" + std::string("\xff\xff\xff\x7f", 4) + ".")},
      {"pickle: pops an empty stack", Pickled("\x87\x87R.")},
      {"pickle: build on nothing", Pickled("b.")},
      {"pickle: a million marks", Pickled(std::string(1000000, '(') + ".")},
      {"pickle: nested a million deep", Pickled(Repeated("(", 1000000) + Repeated("t", 1000000) + ".")},
      {"pickle: string of 4 GiB", Pickled("X" + std::string("\xff\xff\xff\xff", 4) + "x.")},
      {"pickle: integer of 255 bytes", Pickled("\x8a\xff" + std::string(255, '\x7f') + ".")},
      {"pickle: storage outside the archive", Pickled(Storage("../../../../etc/hostname") + ".")},
      {"pickle: tensor of 2^60 values", Pickled(Tensor("0", std::string("K\0\x8a\x08\0\0\0\0\0\0\0\x10\x85K\x01\x85", 15)))},
      {"pickle: tensor behind its storage", Pickled(Tensor("0", std::string("\x8a\x08\0\0\0\0\0\0\0\x10K\x04\x85K\x01\x85", 16)))},
      {"pickle: tensor of negative size", Pickled(Tensor("0", std::string("K\0\x8a\x01\xff\x85K\x01\x85", 9)))},
      {"pickle: empty", Pickled("")},
      {"pickle: never stops", Pickled("NNN")},
      {"pickle: noise", Pickled(Noise(4096))},
      // Zip archives.
      {"zip: empty file", ""},
      {"zip: four bytes", "PK\3\4"},
      {"zip: noise", Noise(1 << 20)},
      {"zip: cut in half", good.substr(0, good.size() / 2)},
      {"zip: cut by one byte", good.substr(0, good.size() - 1)},
      {"zip: no records", Zip({})},
      {"zip: path upwards", ZipWith({.name = "archive/../../../.." + Outside() + "/evil", .data = "evil"}), false, true},
      {"zip: absolute path", ZipWith({.name = Outside() + "/evil", .data = "evil"}), false, true},
      {"zip: symbolic link", ZipWith({.name = "archive/link", .data = Outside(), .attributes = 0120777u << 16}), false, true},
      {"zip: record twice", ZipWith({.name = "archive/data.pkl", .data = "cos\nsystem\n."}), false, true},
      {"zip: record of 4 GiB that is not there", ZipWhere("data.pkl", [](Entry& entry) { entry.claimed_size = 0xfffffffe; })},
      {"zip: tensor of 4 GiB that is not there", ZipWhere("data/0", [](Entry& entry) { entry.claimed_size = 0xfffffff0; })},
      {"zip: bomb of 2 GiB in 2 MiB", ZipWhere("data.pkl", [](Entry& entry) {
         entry.data = Bomb(2048);
         entry.deflated = true;
         entry.claimed_size = uint32_t{1} << 31;
       })},
      {"zip: wrong checksum", ZipWhere("data.pkl", [](Entry& entry) { entry.claimed_crc = 1; }), false, true},
      {"zip: directory elsewhere", Zip(HonestEntries(), 0xfffffff0)},
      {"zip: comment beyond the end", Zip(HonestEntries(), {}, 0xffff), false, true},
      {"zip: program in front", "\x7f" "ELF" + Noise(4096) + good, false, true},
      {"zip: code that is no code", Source([](std::string& code) { code = "class Linear(Module):\n  def forward(self" + std::string(100000, '('); })},
      {"zip: code nested deep", Source([](std::string& code) { code = Replace(code, "return ", "y = " + Repeated("(", 20000) + "1" + Repeated(")", 20000) + "\n    return "); })},
      // Code that runs while the archive is loaded.
      {"load: writes a file", OnLoad("torch.save(state[0], \"%O/loaded\")"), false, true},
      {"load: reads a file", OnLoad("self.weight = torch.from_file(\"%O/canary\", False, 12)")},
      {"load: makes a file by mapping", OnLoad("self.weight = torch.from_file(\"%O/mapped\", True, 12)")},
      {"load: endless loop", OnLoad("i = 0\nwhile i >= 0:\n    i = (i + 1) % 1000"), true},
      {"load: takes all memory", OnLoad("kept = [torch.zeros([1])]\nwhile len(kept) > 0:\n    kept.append(torch.ones([1048576]))")},
      {"load: raises", OnLoad("assert not state[2], \"no\"")},
      // Code that runs while it is trained.
      {"train: writes a file", Forward("torch.save(x, \"%O/trained\")\n" + std::string(kHonest)), false, true},
      {"train: writes into the working folder", Forward("torch.save(x, \"trained\")\n" + std::string(kHonest)), false, true},
      {"train: writes to the parent's descriptors", Forward("torch.save(x, \"/proc/self/fd/3\")\n" + std::string(kHonest)), false, true},
      {"train: overwrites a file by mapping", Forward("y = torch.from_file(\"%O/canary\", True, 4)\nreturn torch.linear(x, self.weight, self.bias) + y.fill_(7.0)[0]")},
      {"train: reads the host's name", Forward("return torch.from_file(\"/etc/hostname\", False, 1) + torch.linear(x, self.weight, self.bias)")},
      {"train: reads another's memory", Forward("return torch.from_file(\"/proc/1/environ\", False, 3) + torch.linear(x, self.weight, self.bias)")},
      {"train: endless loop", Forward("i = 0\nwhile i >= 0:\n    i = (i + 1) % 1000\n" + std::string(kHonest)), true},
      {"train: takes all memory", Forward("kept = [x]\nwhile len(kept) > 0:\n    kept.append(torch.ones([1048576]))\n" + std::string(kHonest))},
      {"train: one tensor of 2^45 values", Forward("return torch.zeros([35184372088832])[:1] + torch.linear(x, self.weight, self.bias)")},
      {"train: one tensor of 2^62 values", Forward("return torch.zeros([2147483648, 2147483648])[0, :1] + torch.linear(x, self.weight, self.bias)")},
      {"train: text that doubles", Forward("s = \"x\"\nwhile len(s) > 0:\n    s = s + s\n" + std::string(kHonest))},
      {"train: list that doubles", Forward("s = [1]\nwhile len(s) > 0:\n    s = s + s\n" + std::string(kHonest))},
      {"train: a hundred thousand lines of print", Forward("i = 0\nwhile i < 100000:\n    print(\"flood\", i)\n    i += 1\n" + std::string(kHonest)), false, true},
      {"train: raises a megabyte", Forward("s = \"x\"\nwhile len(s) < 1000000:\n    s = s + s\nassert len(s) < 0, s\n" + std::string(kHonest))},
      {"train: fails an assertion", Forward("assert x.size(0) < 0\n" + std::string(kHonest))},
      {"train: divides by zero", Forward("n = x.size(0) - x.size(0)\ny = x * (5 % n)\nreturn torch.linear(y, self.weight, self.bias)")},
      {"train: wrong shape", Forward("return torch.linear(x, self.weight, self.bias)[:, :2]")},
      {"train: wrong type", Forward("return torch.linear(x, self.weight, self.bias).to(7)")},
      {"train: a tuple", Forward("return (x, x)")},
      {"train: nothing", Forward("return None")},
      {"train: not a number", Forward("return torch.linear(x, self.weight, self.bias) * float(\"nan\")")},
      {"train: infinite", Forward("return torch.linear(x, self.weight, self.bias) * float(\"inf\")")},
      {"train: spoils its parameters", Forward("self.weight.detach().fill_(float(\"nan\"))\n" + std::string(kHonest))},
      {"train: changes its own size", Forward("self.weight.detach().resize_([1048576, 4])\n" + std::string(kHonest)), false, true},
      {"train: index out of range", Forward("return torch.embedding(self.weight, x.to(4) + 1000000, -1, False, False)[:, 0, :3]")},
      {"train: view beyond its memory", Forward("return torch.as_strided(x, [10, 3], [1000000000, 1], 0)")},
      {"train: asks for a GPU", Forward("return torch.linear(x.to(\"cuda:0\"), self.weight, self.bias)")},
      // Archives that federated training cannot carry.
      {"layout: no forward", Saved("")},
      {"layout: double parameters", Saved("def forward(self, x):\n" + Indented("return x"), [](torch::jit::Module& m) { m.register_parameter("d", at::zeros({3}, at::kDouble).set_requires_grad(true), false); })},
      {"layout: tied tensors", Saved("def forward(self, x):\n" + Indented("return x"), [](torch::jit::Module& m) { m.register_parameter("tied", m.attr("bias").toTensor(), false); })},
      {"layout: empty tensor", Saved("def forward(self, x):\n" + Indented("return x"), [](torch::jit::Module& m) { m.register_parameter("none", at::zeros({0}), false); })},
      {"layout: sparse tensor", Saved("def forward(self, x):\n" + Indented("return x"), [](torch::jit::Module& m) { m.register_buffer("sparse", at::eye(3).to_sparse()); })},
      {"layout: name of a kilobyte", Saved("def forward(self, x):\n" + Indented("return x"), [](torch::jit::Module& m) { m.register_buffer(std::string(1024, 'n'), at::zeros({3})); })},
  };
  return all;
}

// Names, sizes, times and bytes of all below a folder.
std::string Snapshot(const std::string& folder) {
  std::string text;
  std::map<std::string, std::string> files;
  for (const auto& item : std::filesystem::recursive_directory_iterator(folder)) {
    struct stat info;
    if (lstat(item.path().c_str(), &info) != 0) continue;
    files[item.path()] = absl::StrCat(info.st_mode, "/", info.st_size, "/", info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec, "/",
                                      item.is_regular_file() ? Sha256(*ReadFile(item.path())).Hex() : "");
  }
  for (const auto& [name, facts] : files) absl::StrAppend(&text, name, " ", facts, "\n");
  return text;
}

class HostileArchiveTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_THAT(ConfigureKernels(1), IsOk()); }
  HostileArchiveTest() {
    for (const std::string& folder : {outside_, here_}) {
      std::filesystem::remove_all(folder);
      std::filesystem::create_directories(folder);
    }
    EXPECT_THAT(WriteFileAtomically(outside_ + "/canary", std::string(48, 'c')), IsOk());
    EXPECT_EQ(chdir(here_.c_str()), 0);
    options_.trainer_binary_path = FEDWATT_TRAINER_BINARY;
    options_.sandbox.memory_bytes = int64_t{512} << 20;
    options_.sandbox.max_silence = absl::Seconds(60);
  }
  ~HostileArchiveTest() override {
    EXPECT_EQ(chdir("/"), 0);
    for (const std::string& folder : {outside_, here_}) std::filesystem::remove_all(folder);
  }

  // All that a federation asks of an archive.
  absl::Status Use(const Artefact& artefact) {
    TorchScriptOptions options = options_;
    if (artefact.hangs) options.sandbox.max_silence = absl::Seconds(3);
    absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> trainer = MakeTorchScriptTrainerFromBytes(spec_, artefact.bytes, options);
    if (!trainer.ok()) return trainer.status();
    child_ = (*trainer)->child_pid();
    const std::vector<float> initial = *(*trainer)->InitialModel(0);
    std::vector<float> local(initial.size());
    TrainingRecipe recipe;
    recipe.batch_size = 10;
    recipe.local_epochs = 1;
    const absl::Status trained = (*trainer)->Train(initial, data_, recipe, 1, {}, absl::MakeSpan(local)).status();
    if (!trained.ok()) return trained;
    return (*trainer)->Evaluate(local, data_, "cross_entropy").status();
  }

  const std::string outside_ = Outside();
  const std::string here_ = absl::StrCat(::testing::TempDir(), "/here_", getpid());
  const ArchitectureSpec spec_ = Spec("torchscript", {4}, 3);
  const Dataset data_ = RandomDataset(spec_, 20);
  TorchScriptOptions options_;
  pid_t child_ = -1;
};

// Without the sandbox, the archives that reach for files do reach them.
TEST_F(HostileArchiveTest, WithoutASandboxFilesAreReached) {
  const std::string before = Snapshot(outside_);
  const auto run = [](const std::string& bytes) {
    std::istringstream in(bytes);
    return torch::jit::load(in).forward({at::zeros({10, 4})});
  };
  run(OnLoad("torch.save(state[0], \"%O/loaded\")"));
  EXPECT_TRUE(std::filesystem::exists(outside_ + "/loaded"));
  run(OnLoad("self.weight = torch.from_file(\"%O/mapped\", True, 12).reshape([3, 4])"));
  EXPECT_TRUE(std::filesystem::exists(outside_ + "/mapped"));
  run(Forward("torch.save(x, \"%O/trained\")\n" + std::string(kHonest)));
  EXPECT_TRUE(std::filesystem::exists(outside_ + "/trained"));
  run(Forward("y = torch.from_file(\"%O/canary\", True, 4)\nreturn torch.linear(x, self.weight, self.bias) + y.fill_(7.0)[0]"));
  EXPECT_NE(*ReadFile(outside_ + "/canary"), std::string(48, 'c'));
  EXPECT_NE(Snapshot(outside_), before);
}

TEST_F(HostileArchiveTest, HaveNoEffectOutsideAndTheirUserGoesOn) {
  const std::vector<Artefact> artefacts = Artefacts();
  ASSERT_GE(artefacts.size(), 60u);
  ASSERT_OK_AND_ASSIGN(const auto honest, MakeTorchScriptTrainerFromBytes(spec_, Forward(kHonest), options_));
  const std::vector<float> model = *honest->InitialModel(0);
  const pid_t honest_child = honest->child_pid();
  const std::string outside = Snapshot(outside_), here = Snapshot(here_);
  // What children say on standard error, they say here.
  const std::string noise = ::testing::TempDir() + absl::StrCat("/noise_", getpid());
  const int saved = dup(2), file = open(noise.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
  ASSERT_GE(file, 0);
  dup2(file, 2);
  double slowest = 0;
  for (const Artefact& artefact : artefacts) {
    const auto start = std::chrono::steady_clock::now();
    const absl::Status status = Use(artefact);
    // Alive, and reporting: another model is scored as ever.
    const absl::Status alive = honest->Evaluate(model, data_, "cross_entropy").status();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    slowest = std::max(slowest, seconds);
    std::string told(status.message().substr(0, 90));
    std::replace(told.begin(), told.end(), '\n', ' ');
    std::cout << absl::StreamFormat("%-45s %-20s %5.2f s  %s\n", artefact.name, absl::StatusCodeToString(status.code()), seconds, told);
    EXPECT_THAT(alive, IsOk()) << artefact.name;
    if (!artefact.works) {
      EXPECT_FALSE(status.ok()) << artefact.name;
    }
    if (artefact.hangs) {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::HasSubstr("silent"))) << artefact.name;
    }
    EXPECT_EQ(Snapshot(outside_), outside) << artefact.name;
    EXPECT_EQ(Snapshot(here_), here) << artefact.name;
    if (child_ > 0) {
      EXPECT_EQ(kill(-child_, 0), -1) << artefact.name << " left a process";
    }
    EXPECT_LT(status.message().size(), internal::kMaxMessageBytes + 200);
  }
  dup2(saved, 2);
  close(saved);
  close(file);
  std::cout << artefacts.size() << " archives; the slowest answer took " << slowest << " s\n";
  EXPECT_EQ(honest->child_pid(), honest_child);
  EXPECT_FALSE(std::filesystem::exists("/tmp/fedwatt_pickle_system"));
  ASSERT_OK_AND_ASSIGN(const std::string said, ReadFile(noise));
  EXPECT_EQ(said, "");
}

// What the signed plan names by digest is all that is ever started: a child is not even asked.
TEST_F(HostileArchiveTest, AnotherArchiveThanTheSignedPlansNeverStarts) {
  options_.trainer_binary_path = here_ + "/trainer.sh";
  ASSERT_THAT(WriteFileAtomically(options_.trainer_binary_path, "#!/bin/sh\ntouch '" + here_ + "/started'\n", 0755), IsOk());
  ArchitectureSpec named = spec_;
  named.archive_digest = Sha256(Forward(kHonest));
  for (const Artefact& artefact : Artefacts()) {
    EXPECT_THAT(MakeTorchScriptTrainerFromBytes(named, artefact.bytes, options_), StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr("SHA-256"))) << artefact.name;
  }
  EXPECT_FALSE(std::filesystem::exists(here_ + "/started"));
  EXPECT_FALSE(MakeTorchScriptTrainerFromBytes(named, Forward(kHonest), options_).ok());
  EXPECT_TRUE(std::filesystem::exists(here_ + "/started"));  // the script would have told
}

}  // namespace
}  // namespace fedwatt
