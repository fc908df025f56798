#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string_view>

#include "experiments/trace/checked_json.h"
#include "experiments/trace/containers.h"
#include "experiments/trace/npy_header.h"
#include "experiments/trace/zip_reader.h"

// numpy.savez (stored: heads are read in place) and numpy.savez_compressed (every head unpacks its array from the begin
// on).

namespace mobalab::experiments {
namespace {

constexpr std::string_view metadata_name = "__metadata__";
constexpr std::int64_t most_metadata_bytes = 100'000'000;

struct TypeName {
    std::string_view descr;
    ElementType type;
    std::int64_t bytes;
};
/// V2: how numpy saves the bfloat16 of ml_dtypes.
constexpr TypeName type_names[] = {{"<f4", ElementType::fp32, 4},   {"<f2", ElementType::fp16, 2},
                                   {"<u2", ElementType::bits16, 2}, {"|V2", ElementType::bits16, 2},
                                   {"<V2", ElementType::bits16, 2}, {"<i4", ElementType::int32, 4}};

void append_utf8(std::string& text, std::uint32_t code) {
    const auto put = [&text](std::uint32_t byte) { text += static_cast<char>(byte); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xc0 | (code >> 6));
        put(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        put(0xe0 | (code >> 12));
        put(0x80 | ((code >> 6) & 0x3f));
        put(0x80 | (code & 0x3f));
    } else {
        put(0xf0 | ((code >> 18) & 7));
        put(0x80 | ((code >> 12) & 0x3f));
        put(0x80 | ((code >> 6) & 0x3f));
        put(0x80 | (code & 0x3f));
    }
}

class NpzFile : public TensorFile {
public:
    explicit NpzFile(FileBytes file) : file_(std::move(file)), members_(zip_members(file_)) {
        for (const auto& [member, place] : members_) {
            if (!member.ends_with(".npy")) {
                fail(member, "is no array; an .npz file holds nothing else");
            }
            const std::string name = member.substr(0, member.size() - 4);
            ZipReader reader(file_, place, member);
            try {
                if (name == metadata_name) {
                    read_metadata(reader, place);
                } else {
                    tensors_[name] = read_header(reader, place);
                }
            } catch (const FileError&) {
                throw;
            } catch (const std::runtime_error& error) {
                fail(member, error.what());
            }
        }
    }

    std::vector<std::byte> head(const std::string& name, std::int64_t head) const override {
        const StoredTensor& tensor = tensors_.at(name);
        const ZipMember& member = members_.at(name + ".npy");
        const std::int64_t piece = tensor.shape[2] * tensor.element_bytes;
        file_.check_unchanged();
        std::vector<std::byte> bytes;
        if (member.deflated) {
            bytes = unpack(name, tensor, head * piece, piece);
        } else {
            check_once(name);
            bytes = file_.pieces(tensor.offset + head * piece, piece, tensor.shape[1] * piece, tensor.shape[0]);
        }
        file_.check_unchanged();
        return bytes;
    }

private:
    [[noreturn]] void fail(const std::string& member, const std::string& what) const {
        throw FileError(fmt::format("{}: {}: {}", file_.path(), shown(member), what));
    }

    NpyHeader read_npy_header(ZipReader& reader, std::int64_t* end) const {
        std::string start(npy_start_bytes, '\0');
        reader.read(std::as_writable_bytes(std::span(start)));
        const NpyHeaderPlace place = npy_header_place(start);
        std::string text = start.substr(static_cast<std::size_t>(place.begin));
        const std::size_t begun = std::min(text.size(), static_cast<std::size_t>(place.end - place.begin));
        text.resize(static_cast<std::size_t>(place.end - place.begin));
        reader.read(std::as_writable_bytes(std::span(text)).subspan(begun));
        *end = place.end;
        return parse_npy_header(text);
    }

    StoredTensor read_header(ZipReader& reader, const ZipMember& member) const {
        std::int64_t begin = 0;
        const NpyHeader header = read_npy_header(reader, &begin);
        if (header.fortran_order) {
            throw std::runtime_error("is in Fortran's order; save numpy.ascontiguousarray of it");
        }
        StoredTensor tensor;
        tensor.type_name = header.descr;
        tensor.shape = header.shape;
        tensor.offset = member.offset + begin;
        const auto* known = std::ranges::find(type_names, header.descr, &TypeName::descr);
        if (known == std::end(type_names)) {
            return tensor;  // not of a trace, or refused there by its name
        }
        tensor.type = known->type;
        tensor.element_bytes = known->bytes;
        if (tensor_bytes(tensor.shape, tensor.element_bytes) != member.bytes - begin) {
            throw std::runtime_error(fmt::format("{} bytes are not those of shape {} in {}", member.bytes - begin,
                                                 shape_text(tensor.shape), header.descr));
        }
        return tensor;
    }

    /// A string: numpy pads with zeros what it keeps in <U.. (UTF-32) and |S..
    void read_metadata(ZipReader& reader, const ZipMember& member) {
        std::int64_t begin = 0;
        const NpyHeader header = read_npy_header(reader, &begin);
        const bool unicode = header.descr.starts_with("<U");
        const std::int64_t bytes = member.bytes - begin;
        if (!header.shape.empty() || !(unicode || header.descr.starts_with("|S")) || bytes % (unicode ? 4 : 1) != 0) {
            throw std::runtime_error("must be one string: numpy.savez(..., __metadata__=json.dumps(metadata))");
        }
        if (bytes > most_metadata_bytes) {
            throw std::runtime_error(fmt::format("has {} bytes, at most {} are read", bytes, most_metadata_bytes));
        }
        std::string raw(static_cast<std::size_t>(bytes), '\0');
        reader.read(std::as_writable_bytes(std::span(raw)));
        reader.finish();
        std::string text;
        for (std::size_t at = 0; unicode && at < raw.size(); at += 4) {
            std::uint32_t code = 0;
            std::memcpy(&code, raw.data() + at, sizeof code);
            append_utf8(text, code > 0x10ffff ? 0xffffff : code);  // what is no character is refused below
        }
        text = unicode ? text : raw;
        text.resize(text.find_last_not_of('\0') + 1);
        const nlohmann::json metadata = checked_json(text, file_.path() + ": __metadata__");
        if (!metadata.is_object()) {
            throw std::runtime_error("must be a JSON object");
        }
        for (const auto& [name, value] : metadata.items()) {
            if (!value.is_string()) {
                throw std::runtime_error(fmt::format("{} = {}: must be a string", shown(name), shown(value.dump())));
            }
            metadata_[name] = value.get<std::string>();
        }
    }

    std::vector<std::byte> unpack(const std::string& name, const StoredTensor& tensor, std::int64_t skipped,
                                  std::int64_t piece) const {
        const ZipMember& member = members_.at(name + ".npy");
        ZipReader reader(file_, member, name);
        reader.skip(tensor.offset - member.offset + skipped);
        std::vector<std::byte> bytes(static_cast<std::size_t>(piece * tensor.shape[0]));
        for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
            reader.read(
                std::span(bytes).subspan(static_cast<std::size_t>(row * piece), static_cast<std::size_t>(piece)));
            if (row + 1 < tensor.shape[0]) {
                reader.skip((tensor.shape[1] - 1) * piece);
            }
        }
        reader.finish();
        return bytes;
    }

    /// A stored array has its CRC-32 checked before its first head is read: one more pass over it.
    void check_once(const std::string& name) const {
        const std::lock_guard lock(*checking_);
        bool& checked = checked_[name];
        if (!checked) {
            ZipReader(file_, members_.at(name + ".npy"), name).finish();
            checked = true;
        }
    }

    FileBytes file_;
    std::map<std::string, ZipMember> members_;
    mutable std::map<std::string, bool> checked_;
    std::unique_ptr<std::mutex> checking_ = std::make_unique<std::mutex>();
};

}  // namespace

std::unique_ptr<TensorFile> open_npz(FileBytes file) {
    return std::make_unique<NpzFile>(std::move(file));
}

}  // namespace mobalab::experiments
