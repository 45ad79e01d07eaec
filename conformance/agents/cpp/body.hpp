// Bodies as commands give them and events describe them (AGENT.md, section 2).
#ifndef AGENT_BODY_HPP
#define AGENT_BODY_HPP

#include "json.hpp"
#include <cstdint>
#include <majordomo.hpp>

namespace body {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

inline std::string decoded (std::string_view base64)
{
    std::string bytes;
    std::uint32_t bits = 0;
    int held = 0;
    for (const char digit : base64.substr (0, base64.find ('='))) {
        const std::size_t value = alphabet.find (digit);
        if (value == std::string_view::npos)
            throw bad_command ("the body is not base64");
        bits = bits << 6 | static_cast<std::uint32_t> (value);
        held += 6;
        if (held >= 8) {
            held -= 8;
            bytes += static_cast<char> (bits >> held & 0xFF);
        }
    }
    return bytes;
}

inline std::string encoded (std::string_view bytes)
{
    std::string base64;
    for (std::size_t i = 0; i < bytes.size (); i += 3) {
        const std::size_t count = std::min<std::size_t> (3, bytes.size () - i);
        std::uint32_t bits = 0;
        for (std::size_t k = 0; k < 3; ++k)
            bits = bits << 8 | (k < count ? static_cast<unsigned char> (bytes[i + k]) : 0u);
        for (std::size_t k = 0; k < 4; ++k)
            base64 += k <= count ? alphabet[bits >> (18 - 6 * k) & 63] : '=';
    }
    return base64;
}

inline std::uint32_t crc32 (std::string_view bytes)
{
    std::uint32_t crc = 0xFFFFFFFFu;
    for (const char byte : bytes) {
        crc ^= static_cast<unsigned char> (byte);
        for (int bit = 0; bit < 8; ++bit)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

inline std::string pattern (std::size_t size, unsigned long shift)
{
    std::string bytes (size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<char> ((shift + i % 251) & 0xFF);
    return bytes;
}

inline majordomo::message of (const command &command)
{
    majordomo::message message;
    const auto properties = command.get<std::vector<std::string>> ("properties").value_or (std::vector<std::string> ());
    for (std::size_t i = 0; i + 1 < properties.size (); i += 2)
        message.set_property (properties[i], decoded (properties[i + 1]));
    if (const auto frames = command.get<std::vector<std::string>> ("body")) {
        for (const std::string &frame : *frames)
            message.push_back (decoded (frame));
        return message;
    }
    const auto size = static_cast<std::size_t> (command.number ("size", 0));
    for (long i = 0; i < command.number ("frames", 1); ++i)
        message.push_back (pattern (size, static_cast<unsigned long> (command.number ("seed", 0) + i)));
    return message;
}

/// Request number `number` of request_many.
inline majordomo::message numbered (long number, std::size_t size)
{
    majordomo::message message (std::to_string (number));
    message.push_back (pattern (size, static_cast<unsigned long> (number)));
    return message;
}

/// Properties as a list: a name, its value in base64, the next name, ...
inline std::string flat (const majordomo::message &message)
{
    std::string list = "[", separator;
    for (const auto &[name, value] : message.properties ()) {
        list += separator + event::quoted (name) + ',' + event::quoted (encoded (value));
        separator = ",";
    }
    return list + ']';
}

/// An event with the sizes, checksums, bytes and properties of a message.
inline void send (std::string_view name, long id, const majordomo::message &message)
{
    constexpr std::size_t shown_up_to = 65536;
    std::string sizes = "[", sums = "[", frames = "[", separator;
    const bool shown = message.byte_size () <= shown_up_to;
    for (std::string_view frame : message) {
        sizes += separator + std::to_string (frame.size ());
        sums += separator + std::to_string (crc32 (frame));
        if (shown)
            frames += separator + event::quoted (encoded (frame));
        separator = ",";
    }
    event line (name, id);
    line.raw ("sizes", sizes + ']').raw ("crc32", sums + ']').raw ("body", shown ? frames + ']' : "null");
    if (!message.properties ().empty ())
        line.raw ("properties", flat (message));
    line.send ();
}

/// Writes a line for each event of the connection of a client or worker (`role`) of this name.
inline majordomo::event_handler connection_events (std::string role, std::string owner)
{
    return [role = std::move (role), owner = std::move (owner)] (const majordomo::connection_event &happened) {
        event line ("connection");
        line.field (role, owner).field ("name", happened.name);
        if (!happened.endpoint.empty ())
            line.field ("endpoint", happened.endpoint);
        if (!happened.protocol.empty ())
            line.field ("protocol", happened.protocol);
        if (!happened.reason.empty ())
            line.field ("reason", happened.reason);
        line.send ();
    };
}

} // namespace body

#endif
