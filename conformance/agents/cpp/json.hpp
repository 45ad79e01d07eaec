// Lines: flat JSON objects in, JSON objects out (AGENT.md, section 1).
#ifndef AGENT_JSON_HPP
#define AGENT_JSON_HPP

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

/// The agent cannot carry out a command, for a reason that is no error of the library.
struct bad_command : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// A command: a flat object of strings, integers, booleans (1 and 0) and arrays of strings.
class command {
public:
    explicit command (std::string_view line) : rest_ (line)
    {
        expect ('{');
        while (!accept ('}')) {
            std::string key = string ();
            expect (':');
            fields_[std::move (key)] = value ();
            accept (',');
        }
    }

    /// The field, or nothing if the command has none of that name and kind.
    template <typename T> std::optional<T> get (const std::string &key) const
    {
        const auto found = fields_.find (key);
        const T *value = found == fields_.end () ? nullptr : std::get_if<T> (&found->second);
        return value ? std::optional (*value) : std::nullopt;
    }
    std::string text (const std::string &key) const { return get<std::string> (key).value_or (""); }
    long number (const std::string &key, long otherwise) const { return get<long> (key).value_or (otherwise); }
    long id () const { return number ("id", -1); }

private:
    using list = std::vector<std::string>;

    bool accept (char wanted)
    {
        rest_.remove_prefix (std::min (rest_.find_first_not_of (" \t\r\n"), rest_.size ()));
        if (rest_.empty () || rest_.front () != wanted)
            return false;
        rest_.remove_prefix (1);
        return true;
    }
    void expect (char wanted)
    {
        if (!accept (wanted))
            throw bad_command ("not a flat JSON object");
    }
    std::string string ()
    {
        expect ('"');
        const std::size_t end = rest_.find ('"');
        if (end == std::string_view::npos)
            throw bad_command ("a string has no end");
        std::string text (rest_.substr (0, end));
        rest_.remove_prefix (end + 1);
        return text;
    }
    std::variant<std::string, long, list> value ()
    {
        accept (' ');
        if (!rest_.empty () && rest_.front () == '"')
            return string ();
        if (accept ('[')) {
            list items;
            while (!accept (']')) {
                items.push_back (string ());
                accept (',');
            }
            return items;
        }
        const std::size_t end = rest_.find_first_of (",}");
        const std::string word (rest_.substr (0, end));
        rest_.remove_prefix (std::min (end, rest_.size ()));
        if (word.empty ())
            throw bad_command ("a value is missing");
        return word == "true" ? 1 : word == "false" || word == "null" ? 0 : std::stol (word);
    }

    std::string_view rest_;
    std::map<std::string, std::variant<std::string, long, list>> fields_;
};

/// An event that is being written.
class event {
public:
    /// An id of -1 is left out.
    explicit event (std::string_view name, long id = -1)
    {
        text_ = "{\"event\":" + quoted (name);
        if (id != -1)
            field ("id", id);
    }
    event &field (std::string_view key, std::string_view value) { return raw (key, quoted (value)); }
    event &field (std::string_view key, long value) { return raw (key, std::to_string (value)); }
    event &raw (std::string_view key, std::string_view value)
    {
        text_ += ',' + quoted (key) + ':';
        text_ += value;
        return *this;
    }
    /// Writes the line. Lines of different threads do not mix.
    void send ()
    {
        static std::mutex output;
        text_ += "}\n";
        const std::lock_guard<std::mutex> lock (output);
        std::cout << text_ << std::flush;
    }

    static std::string quoted (std::string_view text)
    {
        std::string result = "\"";
        for (const char character : text) {
            if (static_cast<unsigned char> (character) < 0x20) {
                char escape[8];
                std::snprintf (escape, sizeof escape, "\\u%04x", static_cast<unsigned> (character));
                result += escape;
                continue;
            }
            if (character == '"' || character == '\\')
                result += '\\';
            result += character;
        }
        return result + '"';
    }

private:
    std::string text_;
};

#endif
