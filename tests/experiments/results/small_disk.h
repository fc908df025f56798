#pragma once

#include <sys/mount.h>

#include <fstream>
#include <string>

namespace mobalab::experiments {

/// A file system of its own at a folder, while it lives. Only root of a machine (not of every container) may have one.
class SmallDisk {
public:
    SmallDisk(std::string folder, const std::string& size)
        : folder_(std::move(folder)),
          mounted_(::mount("tmpfs", folder_.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0) {}
    ~SmallDisk() {
        if (mounted_) {
            ::umount2(folder_.c_str(), MNT_DETACH);
        }
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;

    bool mounted() const { return mounted_; }
    bool make_read_only() const {
        return ::mount(nullptr, folder_.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0;
    }

    /// Writes until nothing fits any more, then gives `room` bytes back (in whole pages).
    void fill(std::size_t room) const {
        std::string page(4096, 'x');
        std::size_t pages = 0;
        for (std::ofstream file(filler(), std::ios::binary); file.write(page.data(), 4096).flush(); ++pages) {
        }
        std::ofstream(filler(), std::ios::binary).close();
        std::ofstream file(filler(), std::ios::binary);
        for (std::size_t i = 0; i + room / 4096 < pages; ++i) {
            file.write(page.data(), 4096);
        }
    }
    std::string filler() const { return folder_ + "/filler"; }

private:
    std::string folder_;
    bool mounted_;
};

}  // namespace mobalab::experiments
