#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace mobalab::experiments {

/// Damages a text or a file: bits, bytes, blocks, cuts, and pieces of other texts. A function of the seed.
class Mutator {
public:
    /// `pieces`: words to put in, besides bytes.
    explicit Mutator(std::uint64_t seed, std::vector<std::string> pieces = {})
        : random_(seed), pieces_(std::move(pieces)) {}

    /// One to four wounds; not always a different text.
    std::string damaged(std::string text) {
        for (std::size_t wounds = 1 + below(4); wounds > 0; --wounds) {
            wound(text);
        }
        return text;
    }

    std::size_t below(std::size_t count) {
        return std::uniform_int_distribution<std::size_t>(0, std::max<std::size_t>(count, 1) - 1)(random_);
    }

private:
    void wound(std::string& text) {
        const std::size_t at = below(text.size() + 1);
        const std::size_t length = std::min(text.size() - at, std::size_t{1} << below(10));
        switch (below(pieces_.empty() ? 8 : 10)) {
            case 0:  // a bit
                if (at < text.size()) {
                    text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
                }
                break;
            case 1:  // a byte
                if (at < text.size()) {
                    text[at] = telling_byte();
                }
                break;
            case 2:  // a block of one byte
                std::fill_n(text.begin() + static_cast<std::ptrdiff_t>(at), length, telling_byte());
                break;
            case 3:
                text.erase(at, length);
                break;
            case 4:
                text.insert(at, text.substr(below(text.size() + 1), length));
                break;
            case 5:  // a block from elsewhere
                text.replace(at, length, text.substr(below(text.size() + 1), length));
                break;
            case 6:
                text.resize(at);
                break;
            case 7:
                text.insert(at, 1 + below(16), telling_byte());
                break;
            default:
                text.replace(at, below(2) * length, pieces_[below(pieces_.size())]);
        }
    }

    char telling_byte() {
        constexpr unsigned char bytes[] = {0x00, 0xff, 0x7f, 0x80, 0x01, '\n', '=', '-', '9', '0', ',', ':', '#', ' '};
        return static_cast<char>(below(2) == 0 ? bytes[below(sizeof bytes)] : below(256));
    }

    std::mt19937_64 random_;
    std::vector<std::string> pieces_;
};

}  // namespace mobalab::experiments
