#include "tests/fault/simulated_disk.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace fedwatt::testing {

std::string_view LossName(Loss loss) {
  switch (loss) {
    case Loss::kNothing: return "nothing";
    case Loss::kBytes: return "bytes";
    case Loss::kNames: return "names";
    case Loss::kTorn: break;
  }
  return "torn";
}

std::shared_ptr<SimulatedDisk::Node> SimulatedDisk::Find(std::string_view path) const {
  std::shared_ptr<Node> node = root_;
  while (node != nullptr && !path.empty()) {
    const size_t end = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, end);
    path.remove_prefix(std::min(end + 1, path.size()));
    if (part.empty() || part == ".") continue;
    auto found = node->names.find(part);
    node = found == node->names.end() ? nullptr : found->second;
  }
  return node;
}

std::shared_ptr<SimulatedDisk::Node> SimulatedDisk::FolderOf(std::string_view path, std::string* name) const {
  const size_t slash = path.rfind('/');
  *name = std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
  std::shared_ptr<Node> folder = Find(slash == std::string_view::npos ? "" : path.substr(0, slash));
  return folder != nullptr && folder->folder ? folder : nullptr;
}

void SimulatedDisk::SetName(Node& folder, const std::string& name, std::shared_ptr<Node> node) {
  folder.changes.emplace_back(name, node);
  if (node == nullptr) {
    folder.names.erase(name);
  } else {
    folder.names[name] = std::move(node);
  }
}

void SimulatedDisk::Touch(Node& node, int64_t begin, int64_t end) {
  for (int64_t sector = begin / kSector; sector * kSector < end; ++sector) node.dirty.insert(node.dirty.end(), sector);
}

bool SimulatedDisk::Happens(double probability, const std::string& path) {
  if (probability <= 0 || (faulty && !faulty(path)) || random_.Uniform() >= probability) return false;
  ++fault_count_;
  return true;
}

bool SimulatedDisk::Change() {
  if (dead_) return false;
  ++change_count_;
  if (before_change) before_change();
  return !dead_;
}

void SimulatedDisk::Lose(Node& node, Loss loss) {
  if (loss != Loss::kNothing && !node.folder && (node.length_dirty || !node.dirty.empty())) {
    std::string left = node.stored;
    if (loss == Loss::kTorn) {
      std::vector<int64_t> kept;
      for (const int64_t sector : node.dirty) {
        if (random_.Below(2) == 0) kept.push_back(sector);
      }
      // The length, too, may have reached the medium; it always has where a sector behind the old end has.
      int64_t length = static_cast<int64_t>(random_.Below(2) == 0 ? node.bytes.size() : left.size());
      for (const int64_t sector : kept) {
        if (sector * kSector < static_cast<int64_t>(node.bytes.size())) length = std::max(length, std::min<int64_t>((sector + 1) * kSector, static_cast<int64_t>(node.bytes.size())));
      }
      left.resize(static_cast<size_t>(length), '\0');
      for (const int64_t sector : kept) {
        const int64_t begin = sector * kSector, end = std::min({begin + kSector, length, static_cast<int64_t>(node.bytes.size())});
        if (begin < end) left.replace(static_cast<size_t>(begin), static_cast<size_t>(end - begin), node.bytes, static_cast<size_t>(begin), static_cast<size_t>(end - begin));
      }
    }
    node.stored = node.bytes = std::move(left);
  } else if (!node.folder) {
    // The kernel lives: what it holds as dirty it writes some day. What a failed flush has made clean is seen no more after a loss of power, but is now.
    for (const int64_t sector : node.dirty) {
      const int64_t begin = sector * kSector, end = std::min<int64_t>(begin + kSector, static_cast<int64_t>(node.bytes.size()));
      if (begin >= end) continue;
      if (static_cast<int64_t>(node.stored.size()) < end) node.stored.resize(static_cast<size_t>(end), '\0');
      node.stored.replace(static_cast<size_t>(begin), static_cast<size_t>(end - begin), node.bytes, static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    }
    if (node.length_dirty) node.stored.resize(node.bytes.size(), '\0');
    if (loss != Loss::kNothing) node.bytes = node.stored;
  }
  node.dirty.clear();
  node.length_dirty = false;
  node.locked = false;
  if (!node.folder) return;
  size_t kept = node.changes.size();
  if (loss == Loss::kNames) kept = 0;
  if (loss == Loss::kTorn) kept = random_.Below(node.changes.size() + 1);
  for (size_t i = 0; i < kept; ++i) {
    auto& [name, child] = node.changes[i];
    if (child == nullptr) {
      node.stored_names.erase(name);
    } else {
      node.stored_names[name] = child;
    }
  }
  node.changes.clear();
  node.names = node.stored_names;
  for (auto& [name, child] : node.names) Lose(*child, loss);
}

void SimulatedDisk::Restart(Loss loss) {
  handles_.clear();
  Lose(*root_, loss);
  dead_ = false;
}

bool SimulatedDisk::FlipBit(const std::string& path, int64_t bit) {
  std::shared_ptr<Node> node = Find(path);
  if (node == nullptr || node->folder || node->bytes.empty()) return false;
  const size_t at = static_cast<size_t>(bit / 8) % node->bytes.size();
  for (std::string* bytes : {&node->bytes, &node->stored}) {
    if (at < bytes->size()) (*bytes)[at] = static_cast<char>((*bytes)[at] ^ (1 << (bit % 8)));
  }
  return true;
}

std::vector<std::string> SimulatedDisk::Files() const {
  std::vector<std::string> files;
  const std::function<void(const Node&, const std::string&)> walk = [&](const Node& folder, const std::string& path) {
    for (const auto& [name, child] : folder.names) {
      const std::string full = path.empty() ? name : path + "/" + name;
      child->folder ? walk(*child, full) : files.push_back(full);
    }
  };
  walk(*root_, "");
  return files;
}

// ---- Calls.

int SimulatedDisk::Open(const std::string& path, int flags, int) {
  if (dead_) return -EIO;
  std::shared_ptr<Node> node = Find(path);
  if (node != nullptr && node->folder) return -EISDIR;
  if (node != nullptr && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return -EEXIST;
  if (node == nullptr) {
    if ((flags & O_CREAT) == 0) return -ENOENT;
    std::string name;
    const std::shared_ptr<Node> folder = FolderOf(path, &name);
    if (folder == nullptr) return -ENOENT;
    if (!Change()) return -EIO;
    if (faults.full && Happens(1, path)) return -ENOSPC;
    node = std::make_shared<Node>();
    SetName(*folder, name, node);
  } else if ((flags & O_TRUNC) != 0 && !node->bytes.empty()) {
    if (!Change()) return -EIO;
    node->bytes.clear();
    node->dirty.clear();
    node->length_dirty = true;
  }
  handles_[next_handle_] = Handle{std::move(node), path};
  return next_handle_++;
}

void SimulatedDisk::Close(int file) {
  auto handle = handles_.find(file);
  if (handle == handles_.end()) return;  // closed by the restart
  if (handle->second.holds_lock) handle->second.node->locked = false;
  handles_.erase(handle);
}

int64_t SimulatedDisk::Read(int file, char* data, int64_t size, int64_t offset) {
  if (dead_) return -EIO;
  auto handle = handles_.find(file);
  if (handle == handles_.end()) return -EBADF;
  if (Happens(faults.read_fails, handle->second.path)) return -EIO;
  const std::string& bytes = handle->second.node->bytes;
  const int64_t got = std::clamp<int64_t>(static_cast<int64_t>(bytes.size()) - offset, 0, size);
  if (got > 0) bytes.copy(data, static_cast<size_t>(got), static_cast<size_t>(offset));
  return got;
}

int64_t SimulatedDisk::Write(int file, const char* data, int64_t size, int64_t offset) {
  if (!Change()) return -EIO;
  auto handle = handles_.find(file);
  if (handle == handles_.end()) return -EBADF;
  Node& node = *handle->second.node;
  if (faults.full && offset + size > static_cast<int64_t>(node.bytes.size()) && Happens(1, handle->second.path)) return -ENOSPC;
  if (size > 1 && Happens(faults.short_write, handle->second.path)) size = 1 + static_cast<int64_t>(random_.Below(static_cast<uint64_t>(size - 1)));
  const int64_t end = offset + size, old = static_cast<int64_t>(node.bytes.size());
  if (end > old) {
    node.bytes.resize(static_cast<size_t>(end), '\0');
    node.length_dirty = true;
  }
  node.bytes.replace(static_cast<size_t>(offset), static_cast<size_t>(size), data, static_cast<size_t>(size));
  Touch(node, std::min(offset, old), end);
  return size;
}

int64_t SimulatedDisk::Size(int file) {
  if (dead_) return -EIO;
  auto handle = handles_.find(file);
  return handle == handles_.end() ? -EBADF : static_cast<int64_t>(handle->second.node->bytes.size());
}

int SimulatedDisk::Truncate(int file, int64_t size) {
  if (!Change()) return -EIO;
  auto handle = handles_.find(file);
  if (handle == handles_.end()) return -EBADF;
  Node& node = *handle->second.node;
  const int64_t old = static_cast<int64_t>(node.bytes.size());
  if (size > old && faults.full && Happens(1, handle->second.path)) return -ENOSPC;
  node.bytes.resize(static_cast<size_t>(size), '\0');
  node.length_dirty = true;
  node.dirty.erase(node.dirty.lower_bound((size + kSector - 1) / kSector), node.dirty.end());
  Touch(node, std::min(size / kSector * kSector, old), size);
  return 0;
}

int SimulatedDisk::SetMode(int, int) { return dead_ ? -EIO : 0; }

int SimulatedDisk::Sync(int file) {
  if (!Change()) return -EIO;
  auto handle = handles_.find(file);
  if (handle == handles_.end()) return -EBADF;
  Node& node = *handle->second.node;
  if (Happens(faults.sync_lies, handle->second.path)) return 0;
  if (Happens(faults.sync_fails, handle->second.path)) {
    node.dirty.clear();
    return -EIO;
  }
  if (node.length_dirty) node.stored.resize(node.bytes.size(), '\0');
  for (const int64_t sector : node.dirty) {
    const int64_t begin = sector * kSector, end = std::min<int64_t>(begin + kSector, static_cast<int64_t>(node.bytes.size()));
    if (begin < end) node.stored.replace(static_cast<size_t>(begin), static_cast<size_t>(end - begin), node.bytes, static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  }
  node.dirty.clear();
  node.length_dirty = false;
  return 0;
}

int SimulatedDisk::Lock(int file) {
  if (dead_) return -EIO;
  auto handle = handles_.find(file);
  if (handle == handles_.end()) return -EBADF;
  if (handle->second.node->locked && !handle->second.holds_lock) return -EWOULDBLOCK;
  handle->second.node->locked = handle->second.holds_lock = true;
  return 0;
}

const char* SimulatedDisk::Map(int file, int64_t size) {
  if (dead_) return nullptr;
  auto handle = handles_.find(file);
  if (handle == handles_.end() || size > static_cast<int64_t>(handle->second.node->bytes.size())) return nullptr;
  auto bytes = std::make_unique<std::string>(handle->second.node->bytes, 0, static_cast<size_t>(size));
  const char* begin = bytes->data();
  maps_[begin] = std::move(bytes);
  return begin;
}

void SimulatedDisk::Unmap(const char* bytes, int64_t) { maps_.erase(bytes); }

int SimulatedDisk::SyncFolder(const std::string& path) {
  if (!Change()) return -EIO;
  const std::shared_ptr<Node> folder = Find(path);
  if (folder == nullptr || !folder->folder) return -ENOENT;
  if (Happens(faults.sync_lies, path)) return 0;
  if (Happens(faults.sync_fails, path)) return -EIO;
  folder->stored_names = folder->names;
  folder->changes.clear();
  return 0;
}

int SimulatedDisk::Rename(const std::string& from, const std::string& to) {
  if (!Change()) return -EIO;
  std::string old_name, new_name;
  const std::shared_ptr<Node> old_folder = FolderOf(from, &old_name), new_folder = FolderOf(to, &new_name);
  const std::shared_ptr<Node> node = Find(from);
  if (old_folder == nullptr || new_folder == nullptr || node == nullptr) return -ENOENT;
  // The new name first: in between, a crash leaves both.
  SetName(*new_folder, new_name, node);
  SetName(*old_folder, old_name, nullptr);
  return 0;
}

int SimulatedDisk::Remove(const std::string& path) {
  if (!Change()) return -EIO;
  std::string name;
  const std::shared_ptr<Node> folder = FolderOf(path, &name);
  if (folder == nullptr || !folder->names.contains(name)) return -ENOENT;
  SetName(*folder, name, nullptr);
  return 0;
}

int SimulatedDisk::MakeFolder(const std::string& path, int) {
  if (!Change()) return -EIO;
  std::string name;
  const std::shared_ptr<Node> folder = FolderOf(path, &name);
  if (folder == nullptr) return -ENOENT;
  if (folder->names.contains(name)) return -EEXIST;
  if (faults.full && Happens(1, path)) return -ENOSPC;
  auto node = std::make_shared<Node>();
  node->folder = true;
  SetName(*folder, name, std::move(node));
  return 0;
}

bool SimulatedDisk::IsFolder(const std::string& path) {
  const std::shared_ptr<Node> node = Find(path);
  return !dead_ && node != nullptr && node->folder;
}

int64_t SimulatedDisk::FileSize(const std::string& path) {
  if (dead_) return -EIO;
  const std::shared_ptr<Node> node = Find(path);
  return node == nullptr ? -ENOENT : static_cast<int64_t>(node->bytes.size());
}

int SimulatedDisk::List(const std::string& path, std::vector<std::string>* names) {
  if (dead_) return -EIO;
  const std::shared_ptr<Node> node = Find(path);
  if (node == nullptr) return -ENOENT;
  for (const auto& [name, child] : node->names) names->push_back(name);
  return 0;
}

}  // namespace fedwatt::testing
