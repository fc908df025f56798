#include "experiments/probe/socket_router.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "experiments/device/element_conversion.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t keys_message = 1;
constexpr std::int64_t route_message = 2;
constexpr std::int64_t longest_name = 200;

/// A connection to the router at `path`.
class Connection {
public:
    explicit Connection(const std::string& path)
        : path_(path), socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (socket_ < 0) {
            throw KernelError(fmt::format("router = {}: no socket can be made ({})", path, std::strerror(errno)));
        }
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        if (path.size() >= sizeof(address.sun_path)) {
            close();
            throw KernelError(
                fmt::format("router = {}: a socket's path has at most {} characters; nearest valid choice: one in /tmp",
                            path, sizeof(address.sun_path) - 1));
        }
        std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
        if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
            const std::string reason = std::strerror(errno);
            close();
            throw KernelError(fmt::format("router = {}: no router listens there ({})", path, reason));
        }
        try {
            read_name();
        } catch (...) {
            close();
            throw;
        }
    }
    ~Connection() { close(); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    const std::string& name() const { return name_; }

    void send(std::int64_t kind, std::array<std::int64_t, 3> numbers, std::span<const float> tensor) const {
        const std::array<std::int64_t, 4> head = {kind, numbers[0], numbers[1], numbers[2]};
        write(head.data(), sizeof(head));
        write(tensor.data(), tensor.size_bytes());
    }

    void read(void* to, std::size_t size) const {
        auto* at = static_cast<char*>(to);
        while (size > 0) {
            const ssize_t got = ::recv(socket_, at, size, 0);
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got <= 0) {
                throw_lost();
            }
            at += got;
            size -= static_cast<std::size_t>(got);
        }
    }

private:
    void read_name() {
        std::int64_t size = 0;
        read(&size, sizeof(size));
        if (size < 1 || size > longest_name) {
            throw KernelError(
                fmt::format("router = {}: its name has {} bytes; it must have 1 to {}", path_, size, longest_name));
        }
        name_.resize(static_cast<std::size_t>(size));
        read(name_.data(), name_.size());
        if (name_.find_first_of("\n\r") != std::string::npos || name_.find('\0') != std::string::npos) {
            throw KernelError(fmt::format("router = {}: its name must be one line", path_));
        }
    }

    void write(const void* from, std::size_t size) const {
        const auto* at = static_cast<const char*>(from);
        while (size > 0) {
            const ssize_t sent = ::send(socket_, at, size, MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) {
                continue;
            }
            if (sent <= 0) {
                throw_lost();
            }
            at += sent;
            size -= static_cast<std::size_t>(sent);
        }
    }

    [[noreturn]] void throw_lost() const {
        throw KernelError(fmt::format("router = {}: {} has closed the connection", path_,
                                      name_.empty() ? "what listens there" : name_));
    }

    void close() {
        if (socket_ >= 0) {
            ::close(std::exchange(socket_, -1));
        }
    }

    std::string path_;
    std::string name_;
    int socket_;
};

/// What a kernel of this dtype would see.
std::vector<float> rounded(std::span<const float> values, kernels::DataType dtype) {
    std::vector<float> result(values.begin(), values.end());
    round_to(dtype, result);
    return result;
}

class LoadedInRouter : public LoadedKeys {
public:
    /// name: of the router that answered first.
    LoadedInRouter(const std::string& path, const std::string& name, const ProbeShape& shape,
                   std::span<const float> keys)
        : shape_(shape), connection_(path) {
        if (connection_.name() != name) {
            throw KernelError(
                fmt::format("router = {}: answers as {} and was {} before", path, connection_.name(), name));
        }
        connection_.send(keys_message, {shape.seq_len, shape.head_dim, shape.block_size}, rounded(keys, shape.dtype));
    }

    void route(std::span<const QueryChunk> chunks, std::span<const float> queries, std::int64_t topk,
               std::span<std::int32_t> selection) override {
        const std::vector<float> sent = rounded(queries, shape_.dtype);
        std::span<const float> rest(sent);
        for (const QueryChunk& chunk : chunks) {
            const auto rows = static_cast<std::size_t>(chunk.rows);
            const std::size_t elements = rows * static_cast<std::size_t>(shape_.head_dim);
            const std::size_t selected = rows * static_cast<std::size_t>(topk - 1);
            connection_.send(route_message, {chunk.start, chunk.rows, topk}, rest.first(elements));
            connection_.read(selection.data(), selected * sizeof(std::int32_t));
            for (std::int64_t row = 0; row < chunk.rows; ++row) {
                check_row(chunk.start + row, selection.subspan(static_cast<std::size_t>(row * (topk - 1)),
                                                               static_cast<std::size_t>(topk - 1)));
            }
            rest = rest.subspan(elements);
            selection = selection.subspan(selected);
        }
    }

private:
    /// Throws KernelError; moves what is selected to the front.
    void check_row(std::int64_t position, std::span<std::int32_t> row) const {
        const std::int64_t candidates = position / shape_.block_size;
        const auto end = std::remove(row.begin(), row.end(), -1);
        std::fill(end, row.end(), -1);
        for (auto at = row.begin(); at != end; ++at) {
            if (*at < 0 || *at >= candidates) {
                refuse(position, *at,
                       candidates > 0 ? fmt::format("which is none of its past blocks, 0 to {}", candidates - 1)
                                      : std::string("and has no past block"));
            }
            if (std::find(row.begin(), at, *at) != at) {
                refuse(position, *at, "twice");
            }
        }
    }

    [[noreturn]] void refuse(std::int64_t position, std::int32_t block, const std::string& why) const {
        throw KernelError(
            fmt::format("router {}: the query at position {} (block size {}) selects block {}, {}; -1 "
                        "stands for no block",
                        connection_.name(), position, shape_.block_size, block, why));
    }

    ProbeShape shape_;
    Connection connection_;
};

class SocketRouter : public KernelUnderTest {
public:
    explicit SocketRouter(const std::string& path) : path_(path), name_(Connection(path).name()) {}

    std::string device() const override { return "router " + name_; }
    std::string processor() const override { return "a process of its own"; }
    int parallel_key_sets() const override { return 1; }
    std::unique_ptr<LoadedKeys> load(const ProbeShape& shape, std::span<const float> keys) const override {
        return std::make_unique<LoadedInRouter>(path_, name_, shape, keys);
    }

private:
    std::string path_;
    std::string name_;
};

}  // namespace

std::unique_ptr<KernelUnderTest> socket_router(const std::string& path) {
    return std::make_unique<SocketRouter>(path);
}

}  // namespace mobalab::experiments
