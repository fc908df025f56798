#include <fmt/format.h>

#include <cstring>

#include "experiments/trace/checked_json.h"
#include "experiments/trace/containers.h"
#include "experiments/trace/hdf5_content.h"
#include "experiments/trace/in_child.h"

namespace mobalab::experiments {
namespace {

/// Of a reader that takes whole seconds for gigabytes something is wrong.
constexpr std::int64_t seconds_to_open = 10;
constexpr std::int64_t bytes_a_second = 20'000'000;  // a fifth of what gzip unpacks

class Hdf5File : public TensorFile {
public:
    explicit Hdf5File(FileBytes file) : file_(std::move(file)) {
        const std::string answer =
            in_child(file_.path(), seconds_to_open, [this] { return hdf5_content(open_path(), file_.path()).dump(); });
        try {
            const nlohmann::json content = nlohmann::json::parse(answer);
            for (const auto& [name, tensor] : content.at("tensors").items()) {
                tensors_[name] = {static_cast<ElementType>(tensor.at("type").get<int>()),
                                  tensor.at("type_name").get<std::string>(),
                                  tensor.at("shape").get<std::vector<std::int64_t>>(),
                                  tensor.at("element_bytes").get<std::int64_t>(), 0};
            }
            metadata_ = content.at("metadata").get<std::map<std::string, std::string>>();
        } catch (const nlohmann::json::exception&) {
            throw FileError(fmt::format("{}: confuses the HDF5 library: it is damaged", file_.path()));
        }
    }

    std::vector<std::byte> head(const std::string& name, std::int64_t head) const override {
        const StoredTensor& tensor = tensors_.at(name);
        const std::int64_t all = *tensor_bytes(tensor.shape, tensor.element_bytes);
        file_.check_unchanged();
        file_.check_in_place();
        const std::string answer = in_child(file_.path(), seconds_to_open + all / bytes_a_second,
                                            [&] { return hdf5_head(open_path(), file_.path(), name, head); });
        file_.check_unchanged();
        if (std::ssize(answer) != all / tensor.shape[1]) {
            throw FileError(fmt::format("{}: head {} of {} has {} bytes, {} were announced: it is damaged",
                                        file_.path(), head, shown(name), answer.size(), all / tensor.shape[1]));
        }
        std::vector<std::byte> bytes(answer.size());
        std::memcpy(bytes.data(), answer.data(), answer.size());
        return bytes;
    }

private:
    /// The file that is open here, also while its path is given to another one. (HDF5 wants to know the path too, so
    /// that it opens only what still has one.)
    std::string open_path() const { return fmt::format("/proc/self/fd/{}", file_.descriptor()); }

    FileBytes file_;
};

}  // namespace

std::unique_ptr<TensorFile> open_hdf5(FileBytes file) {
    return std::make_unique<Hdf5File>(std::move(file));
}

}  // namespace mobalab::experiments
