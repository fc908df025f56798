#include "experiments/results/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "experiments/base/regular_file.h"

namespace mobalab::experiments {
namespace {

void write_all(int descriptor, std::string_view bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
        if (written < 0 && errno != EINTR) {
            fail_file(path, "cannot be written", errno);
        }
        bytes.remove_prefix(written > 0 ? static_cast<std::size_t>(written) : 0);
    }
}

void sync_descriptor(int descriptor, const std::string& path) {
    if (::fsync(descriptor) != 0 && errno != EINVAL && errno != EROFS) {  // EINVAL: a file system without fsync
        fail_file(path, "cannot be synced", errno);
    }
}

std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

void sync_folder(const std::string& path) {
    const FileDescriptor folder(folder_of(path), O_RDONLY | O_DIRECTORY, "cannot open its folder");
    sync_descriptor(folder.get(), path);
}

/// `path` is left of a killed run or does not exist.
void write_and_sync(const std::string& path, std::string_view bytes, const std::string& replaced) {
    remove_file(path);
    FileDescriptor file(path, O_WRONLY | O_CREAT | O_EXCL, "cannot be written");
    struct stat old {};
    if (::stat(replaced.c_str(), &old) == 0 && S_ISREG(old.st_mode) && ::fchmod(file.get(), old.st_mode & 07777) != 0) {
        fail_file(path, "cannot get the permissions of the file it replaces", errno);
    }
    write_all(file.get(), bytes, path);
    sync_descriptor(file.get(), path);
    if (::close(file.release()) != 0) {  // some network file systems report a full disk only here
        fail_file(path, "cannot be written", errno);
    }
}

}  // namespace

std::string link_target(const std::string& path) {
    struct stat found {};
    if (::lstat(path.c_str(), &found) != 0 || !S_ISLNK(found.st_mode)) {
        return path;
    }
    const std::unique_ptr<char, decltype(&std::free)> target(::realpath(path.c_str(), nullptr), &std::free);
    if (target == nullptr) {
        throw FileError(fmt::format("{}: is a symbolic link that leads nowhere ({}); remove it or give another path",
                                    path, std::strerror(errno)));
    }
    return target.get();
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
    const std::string beside = path + ".new";
    const Leftover leftover(beside);
    try {
        write_and_sync(beside, bytes, path);
        if (::rename(beside.c_str(), path.c_str()) != 0) {
            fail_file(path, "cannot be replaced", errno);
        }
    } catch (...) {
        ::unlink(beside.c_str());
        throw;
    }
    sync_folder(path);
}

FileLock::FileLock(const std::string& path) : lock_path_(path + ".lock"), descriptor_(-1) {
    for (;;) {
        FileDescriptor file(lock_path_, O_RDWR | O_CREAT, path, "cannot be written");
        file.regular(lock_path_);
        if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
            throw FileError(fmt::format("{}: another mobalab is writing it; wait for it or give another --out", path));
        }
        // The former holder removes the file: make sure that what is locked is what others will find at the path.
        struct stat locked {};
        struct stat found {};
        if (::fstat(file.get(), &locked) == 0 && ::stat(lock_path_.c_str(), &found) == 0 &&
            locked.st_ino == found.st_ino && locked.st_dev == found.st_dev) {
            descriptor_ = file.release();
            leftover_ = std::make_unique<Leftover>(lock_path_);
            return;
        }
    }
}

FileLock::~FileLock() {
    leftover_.reset();
    ::unlink(lock_path_.c_str());  // before the lock goes, so that nobody can hold the file being removed
    ::close(descriptor_);
}

AppendFile::AppendFile(std::string path, std::size_t size) : path_(std::move(path)), descriptor_(-1) {
    FileDescriptor file(path_, O_WRONLY, "cannot be written");
    file.regular(path_);
    if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0 || ::lseek(file.get(), 0, SEEK_END) < 0) {
        fail_file(path_, "cannot be written", errno);
    }
    descriptor_ = file.release();
}

AppendFile::~AppendFile() {
    ::close(descriptor_);
}

void AppendFile::append(std::string_view bytes) {
    write_all(descriptor_, bytes, path_);
}

void AppendFile::sync() {
    sync_descriptor(descriptor_, path_);
}

bool file_exists(const std::string& path) {
    struct stat found {};
    return ::lstat(path.c_str(), &found) == 0;
}

bool regular_file(const std::string& path) {
    struct stat found {};
    return ::stat(path.c_str(), &found) == 0 && S_ISREG(found.st_mode);
}

bool dangling_link(const std::string& path) {
    struct stat found {};
    return ::lstat(path.c_str(), &found) == 0 && S_ISLNK(found.st_mode) && ::stat(path.c_str(), &found) != 0;
}

void remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        fail_file(path, "cannot be removed", errno);
    }
}

}  // namespace mobalab::experiments
