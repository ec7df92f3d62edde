/* SPDX-License-Identifier: MIT */
/*
 * conf - evaluate the part of the Kconfig language that this tree uses
 *
 * conf --defconfig=FILE KCONFIG    read FILE, write .config
 * conf --syncconfig KCONFIG        read .config, write it again, and auto.conf and autoconf.h
 *
 * Files named by "source" are taken relative to $srctree. Nothing is ever asked: what is not
 * set gets its default.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { BOOL, STRING, HEX, INT };

struct expr {
	char op;		/* 's'ymbol, 'c'onstant, '!', '&', '|', '=' or '#' (not equal) */
	struct symbol *sym;
	char *text;
	struct expr *left, *right;
};

struct rule {			/* a default or a select: value, and when it holds */
	struct expr *value, *when;
	struct rule *next;
};

struct choice {
	struct rule *defaults;
	struct symbol *members[64], *chosen;
	int count, settled;
};

struct symbol {
	char *name;
	enum kind kind;
	struct expr *visible, *depends;
	struct rule *defaults, *selected_by;
	struct choice *choice;
	const char *user;
	const char *value;
	int write, busy;
	struct symbol *next;
};

static struct symbol *symbols, **symbols_end = &symbols;
static char *sources[256];
static int source_count;
static const char *where = "conf";
static int line_number;

static void die(const char *what, const char *detail)
{
	fprintf(stderr, "%s:%d: %s%s\n", where, line_number, what, detail);
	exit(1);
}

static void *zalloc(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		die("out of memory", "");
	return p;
}

static char *copy(const char *s, size_t len)
{
	char *p = zalloc(len + 1);

	memcpy(p, s, len);
	return p;
}

static struct symbol *lookup(const char *name)
{
	struct symbol *sym;

	for (sym = symbols; sym; sym = sym->next)
		if (!strcmp(sym->name, name))
			return sym;
	sym = zalloc(sizeof(*sym));
	sym->name = copy(name, strlen(name));
	*symbols_end = sym;
	symbols_end = &sym->next;
	return sym;
}

/* ---- expressions ---- */

static struct expr *make(char op, struct expr *left, struct expr *right)
{
	struct expr *e = zalloc(sizeof(*e));

	e->op = op;
	e->left = left;
	e->right = right;
	return e;
}

static struct expr *both(struct expr *a, struct expr *b)
{
	return !a ? b : !b ? a : make('&', a, b);
}

static void skip_space(char **s)
{
	while (isspace((unsigned char)**s))
		++*s;
}

static char *word(char **s)
{
	char *start = *s;

	while (isalnum((unsigned char)**s) || **s == '_' || **s == '-' || **s == '.')
		++*s;
	return copy(start, (size_t)(*s - start));
}

static char *quoted(char **s)
{
	char *end = strchr(*s + 1, '"'), *text;

	if (**s != '"' || !end)
		die("a string in quotes is missing: ", *s);
	text = copy(*s + 1, (size_t)(end - *s - 1));
	*s = end + 1;
	return text;
}

static struct expr *parse_or(char **s);

static struct expr *parse_leaf(char **s)
{
	struct expr *e;
	char *text;

	skip_space(s);
	if (**s == '!' && (*s)[1] != '=') {
		++*s;
		return make('!', parse_leaf(s), NULL);
	}
	if (**s == '(') {
		++*s;
		e = parse_or(s);
		skip_space(s);
		if (*(*s)++ != ')')
			die("missing )", "");
		return e;
	}
	e = make('c', NULL, NULL);
	if (**s == '"') {
		e->text = quoted(s);
		return e;
	}
	text = word(s);
	if (!*text)
		die("not an expression: ", *s);
	if (!strcmp(text, "y") || !strcmp(text, "n") ||
	    (isdigit((unsigned char)*text) && strcmp(text, "32BIT") && strcmp(text, "64BIT"))) {
		e->text = text;
	} else {
		e->op = 's';
		e->sym = lookup(text);
	}
	return e;
}

static struct expr *parse_equal(char **s)
{
	struct expr *left = parse_leaf(s);

	skip_space(s);
	if (**s == '=') {
		++*s;
		return make('=', left, parse_leaf(s));
	}
	if ((*s)[0] == '!' && (*s)[1] == '=') {
		*s += 2;
		return make('#', left, parse_leaf(s));
	}
	return left;
}

static struct expr *parse_and(char **s)
{
	struct expr *left = parse_equal(s);

	for (skip_space(s); (*s)[0] == '&' && (*s)[1] == '&'; skip_space(s)) {
		*s += 2;
		left = make('&', left, parse_equal(s));
	}
	return left;
}

static struct expr *parse_or(char **s)
{
	struct expr *left = parse_and(s);

	for (skip_space(s); (*s)[0] == '|' && (*s)[1] == '|'; skip_space(s)) {
		*s += 2;
		left = make('|', left, parse_and(s));
	}
	return left;
}

static struct expr *parse_if(char **s)
{
	skip_space(s);
	if (strncmp(*s, "if", 2) || !isspace((unsigned char)(*s)[2]))
		return NULL;
	*s += 2;
	return parse_or(s);
}

/* ---- values ---- */

static const char *value_of(struct symbol *sym);

static const char *text_of(struct expr *e)
{
	return e->op == 's' ? value_of(e->sym) : e->text;
}

static int holds(struct expr *e)
{
	if (!e)
		return 1;
	switch (e->op) {
	case '!':
		return !holds(e->left);
	case '&':
		return holds(e->left) && holds(e->right);
	case '|':
		return holds(e->left) || holds(e->right);
	case '=':
		return !strcmp(text_of(e->left), text_of(e->right));
	case '#':
		return strcmp(text_of(e->left), text_of(e->right)) != 0;
	default:
		return !strcmp(text_of(e), "y");
	}
}

/* no prompt at all is a NULL that must not count as "always" */
static int shown(struct symbol *sym)
{
	return sym->visible && holds(sym->visible);
}

static void settle(struct choice *choice)
{
	struct rule *rule;
	int i;

	choice->settled = 1;
	for (i = 0; i < choice->count; i++)
		if (choice->members[i]->user && !strcmp(choice->members[i]->user, "y") &&
		    shown(choice->members[i]))
			choice->chosen = choice->members[i];
	for (rule = choice->defaults; rule && !choice->chosen; rule = rule->next)
		if (holds(rule->when) && shown(rule->value->sym))
			choice->chosen = rule->value->sym;
	for (i = 0; i < choice->count && !choice->chosen; i++)
		if (shown(choice->members[i]))
			choice->chosen = choice->members[i];
}

static const char *value_of(struct symbol *sym)
{
	struct rule *rule;

	if (sym->value)
		return sym->value;
	if (sym->busy)
		die("a symbol depends on itself: ", sym->name);
	sym->busy = 1;
	if (sym->choice) {
		if (!sym->choice->settled)
			settle(sym->choice);
		sym->write = shown(sym);
		return sym->value = sym->choice->chosen == sym ? "y" : "n";
	}
	sym->value = NULL;
	if (shown(sym)) {
		sym->write = 1;
		sym->value = sym->user;
	}
	for (rule = sym->defaults; rule && !sym->value; rule = rule->next)
		if (holds(rule->when)) {
			sym->value = sym->kind == BOOL ? (holds(rule->value) ? "y" : "n") : text_of(rule->value);
			sym->write |= sym->kind != BOOL || *sym->value == 'y';
		}
	for (rule = sym->selected_by; rule; rule = rule->next)
		if (!strcmp(text_of(rule->value), "y") && holds(rule->when)) {
			sym->value = "y";
			sym->write = 1;
		}
	if (!sym->value)
		sym->value = sym->kind == BOOL ? "n" : "";
	return sym->value;
}

/* ---- Kconfig ---- */

static int take(char **s, const char *keyword)
{
	size_t len = strlen(keyword);

	if (strncmp(*s, keyword, len) || (*s)[len] == '_' || isalnum((unsigned char)(*s)[len]))
		return 0;
	*s += len;
	skip_space(s);
	return 1;
}

static void add_rule(struct rule **list, struct expr *value, struct expr *when)
{
	while (*list)
		list = &(*list)->next;
	*list = zalloc(sizeof(**list));
	(*list)->value = value;
	(*list)->when = when;
}

static FILE *open_source(const char *name)
{
	const char *top = getenv("srctree");
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", top ? top : ".", name);
	file = fopen(path, "r");
	if (!file)
		die("cannot read ", path);
	if (source_count < 256)
		sources[source_count++] = copy(path, strlen(path));
	return file;
}

static struct expr *scope[64];	/* what surrounds a line: menu, if, choice */
static int depth;

static struct expr *surroundings(void)
{
	struct expr *e = NULL;
	int i;

	for (i = 0; i < depth; i++)
		e = both(e, scope[i]);
	return e;
}

static void enter(struct expr *e)
{
	if (depth == 64)
		die("nested too deep", "");
	scope[depth++] = e;
}

/* a definition ends at the next one: only then are all its "depends on" known */
struct definition {
	struct symbol *sym;
	struct expr *depends, *prompt;
	int has_prompt;
	struct rule *defaults, *selects;
};

static void finish(struct definition *def)
{
	struct expr *yes, *when;
	struct rule *rule;
	struct expr *self;

	if (def->sym) {
		yes = make('c', NULL, NULL);
		yes->text = "y";
		when = both(surroundings(), def->depends);
		if (def->has_prompt) {
			when = both(when, def->prompt);
			when = when ? when : yes;
			def->sym->visible = def->sym->visible ? make('|', def->sym->visible, when) : when;
			when = both(surroundings(), def->depends);
		}
		self = make('s', NULL, NULL);
		self->sym = def->sym;
		for (rule = def->defaults; rule; rule = rule->next)
			add_rule(&def->sym->defaults, rule->value, both(when, rule->when));
		for (rule = def->selects; rule; rule = rule->next)
			add_rule(&rule->value->sym->selected_by, self, both(when, rule->when));
	}
	memset(def, 0, sizeof(*def));
}

static int indent(const char *s)
{
	int n = 0;

	for (; *s == ' ' || *s == '\t'; s++)
		n = *s == '\t' ? (n | 7) + 1 : n + 1;
	return n;
}

static void parse(const char *name)
{
	static const char *const kinds[] = { "bool", "string", "hex", "int" };
	struct definition def = { 0 };
	struct choice *choice = NULL;
	const char *outer = where;
	int outer_line = line_number, help = 0, i;
	struct expr *e;
	char text[1024], *s;
	FILE *file = open_source(name);

	where = name;
	line_number = 0;
	while (fgets(text, sizeof(text), file)) {
		line_number++;
		text[strcspn(text, "\n")] = '\0';
		s = text;
		skip_space(&s);
		if (!*s)
			continue;
		if (help) {
			if (help < 0)
				help = indent(text);
			if (help && indent(text) >= help)
				continue;
			help = 0;
		}
		if (*s == '#')
			continue;
		if (take(&s, "help")) {
			help = -1;
		} else if (take(&s, "depends")) {
			take(&s, "on");
			e = parse_or(&s);
			if (def.sym)
				def.depends = both(def.depends, e);
			else if (depth)
				scope[depth - 1] = both(scope[depth - 1], e);
		} else if (take(&s, "prompt")) {
			quoted(&s);
		} else if (take(&s, "default")) {
			e = parse_or(&s);
			add_rule(def.sym ? &def.defaults : &choice->defaults, e, parse_if(&s));
		} else if (take(&s, "select")) {
			e = parse_leaf(&s);
			add_rule(&def.selects, e, parse_if(&s));
		} else {
			for (i = 0; i < 4 && !take(&s, kinds[i]); i++)
				;
			if (i < 4 && def.sym) {
				def.sym->kind = (enum kind)i;
				def.has_prompt = *s == '"';
				if (def.has_prompt) {
					quoted(&s);
					def.prompt = parse_if(&s);
				}
				continue;
			}
			finish(&def);
			if (take(&s, "config")) {
				def.sym = lookup(word(&s));
				if (choice && choice->count < 64) {
					def.sym->choice = choice;
					choice->members[choice->count++] = def.sym;
				}
			} else if (take(&s, "choice")) {
				choice = zalloc(sizeof(*choice));
				enter(NULL);
			} else if (take(&s, "menu")) {
				enter(NULL);
			} else if (take(&s, "if")) {
				enter(parse_or(&s));
			} else if (take(&s, "endchoice")) {
				choice = NULL;
				depth--;
			} else if (take(&s, "endmenu") || take(&s, "endif")) {
				if (!depth--)
					die("an end without a beginning", "");
			} else if (take(&s, "source")) {
				parse(quoted(&s));
			} else if (!take(&s, "mainmenu") && !take(&s, "comment")) {
				die("not understood: ", s);
			}
		}
	}
	finish(&def);
	fclose(file);
	where = outer;
	line_number = outer_line;
}

/* ---- reading and writing configurations ---- */

static void read_config(const char *name)
{
	char text[4096], *end, *s;
	FILE *file = fopen(name, "r");
	struct symbol *sym;

	where = name;
	if (!file)
		die("cannot read ", name);
	for (line_number = 1; fgets(text, sizeof(text), file); line_number++) {
		text[strcspn(text, "\n")] = '\0';
		s = text;
		if (!strncmp(s, "# CONFIG_", 9) && (end = strstr(s, " is not set"))) {
			*end = '\0';
			lookup(s + 9)->user = "n";
		} else if (!strncmp(s, "CONFIG_", 7) && (end = strchr(s, '='))) {
			*end++ = '\0';
			sym = lookup(s + 7);
			sym->user = *end == '"' ? quoted(&end) : copy(end, strlen(end));
		} else if (*s && *s != '#') {
			fprintf(stderr, "%s:%d:warning: unexpected data: %s\n", name, line_number, s);
		}
	}
	fclose(file);
}

static void write_symbols(FILE *file, const char *format, const char *unset, int header)
{
	struct symbol *sym;

	for (sym = symbols; sym; sym = sym->next) {
		const char *value = value_of(sym), *quote = sym->kind == STRING ? "\"" : "";

		if (!sym->write)
			continue;
		if (sym->kind == BOOL && *value == 'n') {
			if (unset)
				fprintf(file, unset, sym->name);
			continue;
		}
		fprintf(file, format, sym->name, quote, header && sym->kind == BOOL ? "1" : value, quote);
	}
}

static int same(const char *a, const char *b)
{
	FILE *f = fopen(a, "r"), *g = fopen(b, "r");
	int c = 0, d = 0;

	while (f && g && (c = getc(f)) == (d = getc(g)) && c != EOF)
		;
	if (f)
		fclose(f);
	if (g)
		fclose(g);
	return f && g && c == d;
}

/* a file that would not change keeps its time, so that what depends on it is not built again */
static FILE *begin(const char *name, char *temporary, size_t size)
{
	FILE *file;

	snprintf(temporary, size, "%s.tmp", name);
	file = fopen(temporary, "w");
	if (!file)
		die("cannot write ", temporary);
	return file;
}

static void end(FILE *file, const char *name, const char *temporary, int always)
{
	if (fclose(file))
		die("cannot write ", temporary);
	if (!always && same(name, temporary))
		remove(temporary);
	else if (rename(temporary, name))
		die("cannot write ", name);
}

static void write_config(int always)
{
	char temporary[64];
	FILE *file = begin(".config", temporary, sizeof(temporary));

	fprintf(file, "#\n# Automatically generated file; DO NOT EDIT.\n#\n");
	write_symbols(file, "CONFIG_%s=%s%s%s\n", "# CONFIG_%s is not set\n", 0);
	end(file, ".config", temporary, always);
}

static void write_generated(void)
{
	char temporary[64];
	FILE *file;
	int i;

	file = begin("include/generated/autoconf.h", temporary, sizeof(temporary));
	fprintf(file, "/* Automatically generated file; DO NOT EDIT. */\n");
	write_symbols(file, "#define CONFIG_%s %s%s%s\n", NULL, 1);
	end(file, "include/generated/autoconf.h", temporary, 0);

	file = begin("include/config/auto.conf.cmd", temporary, sizeof(temporary));
	fprintf(file, "deps_config :=");
	for (i = 0; i < source_count; i++)
		fprintf(file, " \\\n\t%s", sources[i]);
	fprintf(file, "\n\ninclude/config/auto.conf: $(deps_config)\n$(deps_config): ;\n");
	end(file, "include/config/auto.conf.cmd", temporary, 0);

	file = begin("include/config/auto.conf", temporary, sizeof(temporary));
	fprintf(file, "# Automatically generated file; DO NOT EDIT.\n");
	write_symbols(file, "CONFIG_%s=%s%s%s\n", NULL, 0);
	end(file, "include/config/auto.conf", temporary, 1);
}

int main(int argc, char **argv)
{
	const char *option = "--defconfig=";
	int sync = argc == 3 && !strcmp(argv[1], "--syncconfig");

	if (argc != 3 || (!sync && strncmp(argv[1], option, strlen(option)))) {
		fprintf(stderr, "usage: conf --defconfig=FILE|--syncconfig KCONFIG\n");
		return 1;
	}
	parse(argv[2]);
	read_config(sync ? ".config" : argv[1] + strlen(option));
	write_config(!sync);
	if (sync)
		write_generated();
	return 0;
}
